//! The `kubastion` command: everything is in the library.

fn main() -> std::process::ExitCode {
    kubastion::cli::main()
}
