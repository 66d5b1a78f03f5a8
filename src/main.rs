//! The `kubastion` command: everything is in the library.

fn main() -> std::process::ExitCode {
    // A crash must not leave keys and passwords in a core file. Where it cannot be set (a jail that
    // forbids it), a run is still better than none.
    let none = rustix::process::Rlimit { current: Some(0), maximum: Some(0) };
    let _ = rustix::process::setrlimit(rustix::process::Resource::Core, none);
    kubastion::transport::fleet::raise_open_files();
    kubastion::cli::main()
}
