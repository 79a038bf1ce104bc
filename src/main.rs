//! The program `ich`: see [`ich::cli`].

fn main() -> std::process::ExitCode {
    ich::cli::main()
}
