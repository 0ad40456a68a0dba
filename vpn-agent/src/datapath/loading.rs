//! Loads programs, also while signals arrive.

use std::io;

use aya::programs::ProgramError;

/// How often a program is tried.
const ATTEMPTS: u32 = 10;

/// Loads a program. The verifier gives up with EAGAIN when a signal arrives for the thread (`do_check` in the kernel's
/// kernel/bpf/verifier.c), and has to begin anew then.
///
/// # Errors
/// Those of `load`; EAGAIN only if it came every time.
pub fn patiently(load: impl FnMut() -> Result<(), ProgramError>) -> Result<(), ProgramError> {
    repeat_while(was_interrupted, load)
}

fn was_interrupted(error: &ProgramError) -> bool {
    matches!(error, ProgramError::LoadError { io_error, .. } if io_error.kind() == io::ErrorKind::WouldBlock)
}

fn repeat_while<E>(passes: impl Fn(&E) -> bool, mut load: impl FnMut() -> Result<(), E>) -> Result<(), E> {
    for _ in 1..ATTEMPTS {
        match load() {
            Err(error) if passes(&error) => {}
            result => return result,
        }
    }
    load()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_is_no_reason_to_give_up_and_everything_else_is() {
        let tried_until = |error: &'static str, good: u32| {
            let mut tried = 0;
            let result = repeat_while(
                |error| *error == "a signal",
                || {
                    tried += 1;
                    if tried < good { Err(error) } else { Ok(()) }
                },
            );
            (result.is_ok(), tried)
        };
        assert_eq!(tried_until("a signal", 4), (true, 4));
        assert_eq!(tried_until("a signal", 100), (false, ATTEMPTS));
        assert_eq!(tried_until("no permission", 4), (false, 1));
    }
}
