//! The probe of the API server that control planes get: plain data, so that stages that touch no disk
//! can work with it.

use std::fmt;
use std::sync::Arc;

/// The health-check program, built into this binary; empty unless it is built for Linux.
pub const BUILT_IN_PROBE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/probe"));

/// A statically linked program, and the machines it runs on.
#[derive(Clone, PartialEq, Eq)]
pub struct Probe {
    /// Machine architecture as `uname -m` has it.
    pub architecture: &'static str,
    /// The executable.
    pub bytes: Arc<[u8]>,
}

/// Not its two megabytes.
impl fmt::Debug for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Probe")
            .field("architecture", &self.architecture)
            .field("bytes", &self.bytes.len())
            .finish()
    }
}

/// Why a file is no program that could run in the API server's container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProbeError {
    /// Something else than a program.
    #[error("it is not a 64-bit little-endian ELF executable")]
    NotElf,
    /// A program for other machines.
    #[error("it is a program for an unknown architecture (ELF machine {0})")]
    Machine(u16),
    /// It asks for a loader and libraries, which a container without them cannot give.
    #[error("it is not linked statically")]
    Dynamic,
    /// Its tables lie outside the file.
    #[error("it is truncated")]
    Truncated,
}

/// Machines of the ELF header, by the name that `uname -m` has for them.
const MACHINES: &[(u16, &str)] = &[(62, "x86_64"), (183, "aarch64")];
/// Program header of the path of a loader.
const PT_INTERP: u32 = 3;

impl Probe {
    /// Reads the headers of an executable (<https://refspecs.linuxfoundation.org/elf/gabi4+/ch4.eheader.html>,
    /// ch5.pheader.html).
    ///
    /// Not checked: that it is our program.
    ///
    /// # Errors
    /// If it is not a static executable for a known machine.
    pub fn from_elf(bytes: impl Into<Arc<[u8]>>) -> Result<Self, ProbeError> {
        let bytes = bytes.into();
        // Magic, 64 bits, little-endian, version 1.
        if !bytes.starts_with(b"\x7fELF\x02\x01\x01") {
            return Err(ProbeError::NotElf);
        }
        // ET_EXEC, or ET_DYN for static-pie.
        if !matches!(u16_at(&bytes, 16)?, 2 | 3) {
            return Err(ProbeError::NotElf);
        }
        let machine = u16_at(&bytes, 18)?;
        let known = MACHINES.iter().find(|(number, _)| *number == machine);
        let (_, architecture) = known.ok_or(ProbeError::Machine(machine))?;
        let offset = usize::try_from(u64::from_le_bytes(array_at(&bytes, 32)?));
        let offset = offset.map_err(|_| ProbeError::Truncated)?;
        let size = usize::from(u16_at(&bytes, 54)?);
        let count = usize::from(u16_at(&bytes, 56)?);
        if count == 0 {
            return Err(ProbeError::NotElf);
        }
        for n in 0..count {
            let header = offset.checked_add(n * size).ok_or(ProbeError::Truncated)?;
            if u32::from_le_bytes(array_at(&bytes, header)?) == PT_INTERP {
                return Err(ProbeError::Dynamic);
            }
        }
        Ok(Self { architecture, bytes })
    }
}

fn array_at<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N], ProbeError> {
    let found = bytes.get(at..).and_then(|rest| rest.first_chunk::<N>());
    found.copied().ok_or(ProbeError::Truncated)
}

fn u16_at(bytes: &[u8], at: usize) -> Result<u16, ProbeError> {
    array_at(bytes, at).map(u16::from_le_bytes)
}

/// The headers of an executable with these program headers and nothing behind them.
#[cfg(test)]
pub(crate) fn elf(machine: u16, headers: &[u32]) -> Vec<u8> {
    let mut bytes = b"\x7fELF\x02\x01\x01".to_vec();
    bytes.resize(64, 0);
    bytes[16] = 3;
    bytes[18..20].copy_from_slice(&machine.to_le_bytes());
    bytes[32] = 64;
    bytes[54] = 56;
    bytes[56] = u8::try_from(headers.len()).expect("a handful");
    for kind in headers {
        bytes.extend(kind.to_le_bytes());
        bytes.extend([0; 52]);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_static_executables_of_known_machines_are_taken() {
        let read = |bytes: Vec<u8>| Probe::from_elf(bytes).map(|p| p.architecture);
        assert_eq!(read(elf(62, &[1, 2])), Ok("x86_64"));
        assert_eq!(read(elf(183, &[1])), Ok("aarch64"));
        assert_eq!(read(elf(62, &[1, PT_INTERP])), Err(ProbeError::Dynamic));
        assert_eq!(read(elf(40, &[1])), Err(ProbeError::Machine(40)));
        assert_eq!(read(b"#!/bin/sh\n".to_vec()), Err(ProbeError::NotElf));
        assert_eq!(read(elf(62, &[])), Err(ProbeError::NotElf));
        let mut object = elf(62, &[1]);
        object[16] = 1;
        assert_eq!(read(object), Err(ProbeError::NotElf));
        // The program that runs this test is linked like most.
        let this = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        assert_eq!(read(this), Err(ProbeError::Dynamic));
    }

    #[test]
    fn headers_outside_the_file_are_refused() {
        let whole = elf(62, &[1, 2, 4]);
        for length in 7..whole.len() - 52 {
            let cut = Probe::from_elf(whole[..length].to_vec());
            assert_eq!(cut.map(|p| p.architecture), Err(ProbeError::Truncated), "{length}");
        }
        let mut far = whole;
        far[32..40].fill(0xff);
        assert_eq!(Probe::from_elf(far).map(|p| p.architecture), Err(ProbeError::Truncated));
    }
}
