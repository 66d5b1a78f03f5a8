//! Locks between processes (flock(2)): each ends when its guard is dropped.
//!
//! Closing the file is not enough: flock(2) locks the open file, and a process that another thread is just starting shares it
//! until it executes its program, so the next caller would find it still locked. clippy.toml refuses the calls that make a lock without a guard.

use std::fs::File;
use std::io;

/// A held lock. Dropping it releases the lock, even if another process has the file open.
#[derive(Debug)]
pub struct FileLock(File);

#[expect(clippy::disallowed_methods, reason = "the one place that makes locks")]
impl FileLock {
    /// Takes an exclusive lock.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] if another process holds a lock on it.
    pub fn try_exclusive(file: File) -> io::Result<Self> {
        file.try_lock()?;
        Ok(Self(file))
    }

    /// Takes a shared lock.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] if another process holds the lock alone.
    pub fn try_shared(file: File) -> io::Result<Self> {
        file.try_lock_shared()?;
        Ok(Self(file))
    }

    /// Takes an exclusive lock, and waits while another process holds one.
    ///
    /// # Errors
    /// If the file system knows no locks.
    pub fn wait_exclusive(file: File) -> io::Result<Self> {
        file.lock()?;
        Ok(Self(file))
    }

    /// The file that is locked.
    pub fn file(&self) -> &File {
        &self.0
    }
}

impl Drop for FileLock {
    fn drop(&mut self) {
        // It ends with the processes at the latest.
        let _ = self.0.unlock();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_ends_with_its_holder_also_while_a_child_has_it_open() {
        let dir = tempfile::tempdir().unwrap();
        let open = || File::create(dir.path().join("lock")).unwrap();
        for take in [FileLock::try_exclusive, FileLock::try_shared, FileLock::wait_exclusive] {
            let lock = take(open()).unwrap();
            assert_eq!(
                FileLock::try_exclusive(open()).unwrap_err().kind(),
                io::ErrorKind::WouldBlock
            );
            // As a process does that is started from another thread.
            let _inherited = lock.file().try_clone().unwrap();
            drop(lock);
            FileLock::try_exclusive(open()).unwrap();
        }
    }
}
