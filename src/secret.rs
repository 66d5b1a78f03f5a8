//! Values that must never be printed: private keys, passwords, encryption keys.

use zeroize::{Zeroize, Zeroizing};

/// A value without `Debug`, `Display` or `Serialize`, wiped when dropped.
///
/// The only way in is [`Secret::expose`]; a search for that word finds every use.
#[derive(Clone)]
pub struct Secret<T: Zeroize>(Zeroizing<T>);

impl<T: Zeroize> Secret<T> {
    /// Takes ownership of a value that must not be printed.
    pub fn new(value: T) -> Self {
        Self(Zeroizing::new(value))
    }

    /// The value itself. Callers hand it to a cipher, a socket or a 0600 file, never to a formatter.
    pub fn expose(&self) -> &T {
        &self.0
    }
}

/// Compares in time that depends on the lengths only.
pub fn equal(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && openssl::memcmp::eq(a, b)
}
