//! File descriptors: the limit on open ones, and some that are kept back for those who must be heard when
//! none is left.

use std::{fs::File, io};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors that a [`Reserve`] keeps back.
const RESERVED_DESCRIPTORS: usize = 4;

/// Raises the soft limit on open files to the hard one, as Go's programs do: a shell's 1,024 are for programs
/// that use `select`. Returns the limit that counts now; `None`: there is none.
pub fn raise_limit() -> Option<u64> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current == maximum {
        return current;
    }
    match setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        Ok(()) => maximum,
        // Some systems have a limit of their own below an unlimited hard one.
        Err(_) => current,
    }
}

/// Returns the limit on open files that counts now; `None`: there is none.
pub fn limit() -> Option<u64> {
    getrlimit(Resource::Nofile).current
}

/// Returns whether an error says that no descriptor is left, in this process or in the system.
pub fn is_exhausted(error: &io::Error) -> bool {
    let code = error.raw_os_error();
    [rustix::io::Errno::MFILE, rustix::io::Errno::NFILE]
        .iter()
        .any(|errno| code == Some(errno.raw_os_error()))
}

/// Descriptors that are kept back, to be released one at a time.
#[derive(Debug, Default)]
pub struct Reserve(Vec<File>);

impl Reserve {
    /// Takes as many as there are, up to the full reserve.
    pub fn fill(&mut self) {
        while self.0.len() < RESERVED_DESCRIPTORS {
            match File::open("/dev/null") {
                Ok(file) => self.0.push(file),
                Err(_) => return,
            }
        }
    }

    /// Frees one. `false`: none is left.
    pub fn release(&mut self) -> bool {
        self.0.pop().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn k2_the_soft_limit_becomes_the_hard_one() {
        let hard = getrlimit(Resource::Nofile).maximum;
        assert_eq!(raise_limit(), hard);
        assert_eq!(getrlimit(Resource::Nofile).current, hard);
    }

    #[test]
    fn a_reserve_is_released_one_by_one_and_filled_again() {
        let mut reserve = Reserve::default();
        assert!(!reserve.release());
        reserve.fill();
        reserve.fill();
        assert_eq!((0..).take_while(|_| reserve.release()).count(), RESERVED_DESCRIPTORS);
        assert!(is_exhausted(&io::Error::from(rustix::io::Errno::MFILE)));
        assert!(!is_exhausted(&io::Error::from(rustix::io::Errno::CONNRESET)));
    }
}
