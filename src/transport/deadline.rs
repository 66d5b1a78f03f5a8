//! A stream that ends at a moment: a server that sends a byte now and then must not hold a run up.

use std::io::{self, Read, Write};
use std::time::Instant;

/// A stream with a deadline for everything that is read and written.
pub struct WithDeadline<S> {
    /// The stream.
    pub stream: S,
    /// When it ends.
    pub deadline: Instant,
}

impl<S> WithDeadline<S> {
    /// Tries again what the stream gave up by its own clock, which is that of connecting: a server that is
    /// slow to answer is no server that cannot be reached.
    fn in_time<R>(&mut self, mut work: impl FnMut(&mut S) -> io::Result<R>) -> io::Result<R> {
        while Instant::now() < self.deadline {
            match work(&mut self.stream) {
                Err(e) if e.kind() == io::ErrorKind::TimedOut => {}
                other => return other,
            }
        }
        Err(io::ErrorKind::TimedOut.into())
    }
}

impl<S: Read> Read for WithDeadline<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.in_time(|stream| stream.read(buffer))
    }
}

impl<S: Write> Write for WithDeadline<S> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.in_time(|stream| stream.write(buffer))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn an_answer_that_comes_late_is_waited_for_and_none_is_not_waited_for_too_long() {
        /// Gives up twice, as a connection does by the clock of its beginning, before there is an answer.
        struct Late(u8);
        impl Read for Late {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                self.0 += 1;
                if self.0 < 3 {
                    return Err(io::ErrorKind::TimedOut.into());
                }
                (&b"yes"[..]).read(buffer)
            }
        }
        let within = |ms| Instant::now() + Duration::from_millis(ms);
        let mut answer = [0; 3];
        let read = WithDeadline { stream: Late(0), deadline: within(10_000) }.read(&mut answer);
        assert_eq!((read.unwrap(), &answer), (3, b"yes"));
        let never = WithDeadline { stream: Late(0), deadline: within(0) }.read(&mut answer);
        assert_eq!(never.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }

    #[test]
    fn an_answer_byte_by_byte_ends_in_time() {
        let deadline = Instant::now() + Duration::from_millis(20);
        let mut slow = WithDeadline { stream: io::repeat(b'x'), deadline };
        let mut byte = [0];
        while slow.read(&mut byte).is_ok() {}
        assert!(Instant::now() >= deadline);
    }
}
