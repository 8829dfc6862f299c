//! The token that each call has to bring (`authorization: Bearer TOKEN`, RFC 6750).

use std::{
    fmt, io,
    path::PathBuf,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use tokio::time::Instant;
use zeroize::Zeroizing;

use routr_net::files;

/// Interval between two looks at the file.
const RELOAD_PERIOD: Duration = Duration::from_secs(1);
/// Tokens that are taken at a time: the old one and the new one, while they are exchanged.
const MAX_TOKENS: usize = 8;
/// A shorter one can be guessed.
const MIN_LENGTH: usize = 16;
const MAX_LENGTH: usize = 4096;

type Digest = [u8; 32];

/// Reason that a token cannot be used. Shows none of it.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The file cannot be read.
    #[error("{}: cannot be read: {source}; a file with the token on a line of its own is needed", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Error of the system.
        source: io::Error,
    },
    /// The content is no token.
    #[error("{from}: {problem}; make one with: openssl rand -hex 32")]
    Bad {
        /// Source of the token.
        from: String,
        /// Problem in plain words.
        problem: &'static str,
    },
}

/// The token, or the tokens of a file, which is read again when it changes.
pub struct Token {
    file: Option<PathBuf>,
    /// Digests, so that their comparison says nothing of a length, and no token stays in memory.
    accepted: Mutex<Accepted>,
}

struct Accepted {
    digests: Vec<Digest>,
    looked: Instant,
    /// Reported, and still wrong.
    wrong: Option<String>,
}

impl Token {
    /// Takes one token that is good.
    #[cfg(test)]
    pub(crate) fn given(text: impl AsRef<str>) -> Self {
        Self::with(None, vec![digest(text.as_ref().as_bytes())])
    }

    /// Takes the token of an environment variable of that name.
    ///
    /// # Errors
    /// It is too short, or has other characters than a token may have.
    pub fn from_variable(name: &str, text: &str) -> Result<Self, TokenError> {
        Ok(Self::with(None, read(text, name)?))
    }

    /// Follows a file with one token on each line; each of them is taken.
    ///
    /// # Errors
    /// It cannot be read now, or holds no token.
    pub fn from_file(path: PathBuf) -> Result<Self, TokenError> {
        let digests = load(&path)?;
        Ok(Self::with(Some(path), digests))
    }

    fn with(file: Option<PathBuf>, digests: Vec<Digest>) -> Self {
        let accepted = Accepted { digests, looked: Instant::now(), wrong: None };
        Self { file, accepted: Mutex::new(accepted) }
    }

    /// Returns whether what a caller brings is the token; in a time that says nothing of it.
    pub fn is(&self, brought: &[u8]) -> bool {
        let brought = digest(brought);
        let mut accepted = self.accepted.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = self.file.as_ref().filter(|_| accepted.looked.elapsed() >= RELOAD_PERIOD) {
            accepted.looked = Instant::now();
            match load(file) {
                Ok(digests) => {
                    if digests != accepted.digests {
                        tracing::info!(file = %file.display(), "the token's file has changed: calls need what it holds now");
                    }
                    (accepted.digests, accepted.wrong) = (digests, None);
                }
                Err(error) => {
                    let wrong = error.to_string();
                    if accepted.wrong.as_ref() != Some(&wrong) {
                        tracing::warn!(
                            "{wrong}. The token that the file held before counts until this is corrected"
                        );
                        accepted.wrong = Some(wrong);
                    }
                }
            }
        }
        let found = accepted.digests.iter().map(|digest| digest.ct_eq(&brought));
        found.fold(subtle::Choice::from(0), |any, this| any | this).into()
    }
}

fn digest(token: &[u8]) -> Digest {
    Sha256::digest(token).into()
}

fn load(path: &std::path::Path) -> Result<Vec<Digest>, TokenError> {
    let bytes = files::read(path).map_err(|source| TokenError::Read { path: path.to_owned(), source })?;
    let bytes = Zeroizing::new(bytes);
    let from = path.display().to_string();
    let Ok(text) = std::str::from_utf8(&bytes) else {
        return Err(TokenError::Bad { from, problem: "is not UTF-8 text" });
    };
    read(text, &from)
}

fn read(text: &str, from: &str) -> Result<Vec<Digest>, TokenError> {
    let bad = |problem| TokenError::Bad { from: from.to_owned(), problem };
    let tokens: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    if tokens.is_empty() {
        return Err(bad("is empty"));
    }
    if tokens.len() > MAX_TOKENS {
        return Err(bad("has more than 8 lines, each of which would be a token"));
    }
    for token in &tokens {
        if token.len() < MIN_LENGTH {
            return Err(bad("holds a token of fewer than 16 characters, which can be guessed"));
        }
        if token.len() > MAX_LENGTH || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(bad(
                "holds a token that is not made of 16 to 4096 visible ASCII characters without blanks",
            ));
        }
    }
    Ok(tokens.into_iter().map(|token| digest(token.as_bytes())).collect())
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token").field("file", &self.file).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: &str = "first-token-of-all";
    const SECOND: &str = "second-token-of-all";

    #[tokio::test(start_paused = true)]
    async fn a_file_is_followed_and_the_last_good_token_counts() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        std::fs::write(&file, format!("{FIRST}\n")).unwrap();
        let token = Token::from_file(file.clone()).unwrap();
        let is = |text: &str| token.is(text.as_bytes());
        assert!(
            is(FIRST) && !is(SECOND) && !is("") && !is("first-token-of-al") && !is("first-token-of-all\n")
        );
        for (content, first, second) in [
            (format!("{SECOND}\r\n\n{FIRST}"), true, true),
            ("short".to_owned(), true, true),
            (format!("  {SECOND}  "), false, true),
            (String::new(), false, true),
        ] {
            std::fs::write(&file, content).unwrap();
            tokio::time::advance(RELOAD_PERIOD).await;
            assert_eq!((is(FIRST), is(SECOND)), (first, second));
        }
        std::fs::remove_file(&file).unwrap();
        tokio::time::advance(RELOAD_PERIOD).await;
        assert!(is(SECOND));
        assert!(!format!("{token:?}").contains("second-token"));
    }

    #[test]
    fn what_is_no_token_is_named_and_not_shown() {
        for (text, problem) in [
            ("", "is empty"),
            (" \n", "is empty"),
            ("fifteen-letters", "fewer than 16"),
            ("sixteen letters and a blank", "visible ASCII"),
            ("sixteen\u{e9}letters-and-more", "visible ASCII"),
        ] {
            let text_of = Token::from_variable("REQUESTER_TOKEN", text).unwrap_err().to_string();
            assert!(text_of.starts_with("REQUESTER_TOKEN: ") && text_of.contains(problem), "{text_of}");
            assert!(text_of.contains("openssl rand") && !text_of.contains("letters"), "{text_of}");
        }
        let missing = Token::from_file("/nowhere/token".into()).unwrap_err().to_string();
        assert!(missing.starts_with("/nowhere/token: cannot be read"), "{missing}");
    }
}
