//! Locks between processes (flock(2)): each ends when its guard is dropped.
//!
//! Closing the file would not be enough. A process that another thread is starting meanwhile has the same open file
//! until it runs its program, and flock(2) gives the lock to the open file: whoever asks next would be told that
//! somebody is at work. clippy.toml refuses the calls that make a lock without a guard.

use std::fs::File;
use std::io;

/// A lock that is held. Dropped, it ends, whoever else has the file open.
#[derive(Debug)]
pub struct FileLock(File);

#[expect(clippy::disallowed_methods, reason = "the one place that makes locks")]
impl FileLock {
    /// Locks the file alone.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] if another process holds a lock on it.
    pub fn try_exclusive(file: File) -> io::Result<Self> {
        file.try_lock()?;
        Ok(Self(file))
    }

    /// Locks the file beside others that read it.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] if another process holds the lock alone.
    pub fn try_shared(file: File) -> io::Result<Self> {
        file.try_lock_shared()?;
        Ok(Self(file))
    }

    /// Locks the file alone, and waits as long as another process holds a lock on it.
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
