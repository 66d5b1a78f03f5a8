//! What a server answers: any bytes, in pieces of any size, come to an answer or an error.
#![no_main]

use std::io::{self, Read, Write};

use kubastion::transport::http::{HttpError, MAX_ANSWER, get_without_tls};

/// Says something in pieces, and hears nothing.
struct Server {
    bytes: Vec<u8>,
    said: usize,
    at_once: usize,
}

impl Read for Server {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = &self.bytes[self.said..];
        let n = left.len().min(self.at_once).min(buffer.len());
        buffer[..n].copy_from_slice(&left[..n]);
        self.said += n;
        Ok(n)
    }
}

impl Write for Server {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        Ok(buffer.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Some((at_once, bytes)) = data.split_first() else { return };
    let server = Server { bytes: bytes.to_vec(), said: 0, at_once: usize::from(*at_once).max(1) };
    match get_without_tls(Box::new(server), "127.0.0.1", "/") {
        Ok(answer) => assert!(answer.body.len() <= bytes.len().min(MAX_ANSWER)),
        Err(e @ HttpError::NotHttp(_)) => kubastion_fuzz::assert_tame(&e.to_string()),
        Err(_) => {}
    }
});
