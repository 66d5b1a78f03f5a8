//! Any text as a known_hosts file: refused, or looked up without a panic.
#![no_main]

use kubastion::transport::known_hosts::KnownHosts;

libfuzzer_sys::fuzz_target!(|text: &str| {
    if let Ok(known) = KnownHosts::parse(text) {
        for (host, port) in [("host.example", 22), ("192.0.2.1", 2222), ("2001:db8::1", 22)] {
            let _ = known.lookup(host, port);
        }
    }
});
