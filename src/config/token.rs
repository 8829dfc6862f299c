//! The token that a Requester wants of each call: from a file, or from a Secret.

use crate::spec::RegistrySpec;
use routr_types::secret::Secret;

use super::{
    cache::Source,
    files,
    rules::{self, hint},
    validator::Validator,
};

const FILE: &str = "spec.requesterTokenFile";
const SECRET_REF: &str = "spec.requesterTokenSecretRef";

/// Bytes of the longest token: a header field of HTTP/2 has to hold it.
const MAX_LENGTH: usize = 4096;

impl Validator<'_> {
    /// The token, from the one place where it is.
    pub(super) fn requester_token(&mut self, spec: &RegistrySpec) -> Option<Secret> {
        if let Some(given) = &spec.requester_token_file {
            if self.secrets.is_some() {
                self.wrong(FILE, rules::TOKEN_FILE_OF_THE_POD, None, hint::TOKEN_SECRET);
                return None;
            }
            if given.trim().is_empty() {
                self.wrong(FILE, "empty", None, hint::TOKEN_FILE);
                return None;
            }
            let token = self.files.password(&self.files.resolve(given)).unwrap_or_else(|problem| {
                self.wrong(FILE, problem, None, hint::TOKEN_FILE);
                None
            });
            return token.and_then(|token| self.good_token(FILE, "", token));
        }
        let at = spec.requester_token_secret_ref.as_ref()?;
        self.only_in_kubernetes(SECRET_REF);
        let source = Source::secret(SECRET_REF, at);
        let Some(held) = self.secrets.and_then(|secrets| secrets.requester_token.as_ref()) else {
            self.not_there(&source);
            return None;
        };
        match files::one_line(held.expose()) {
            Ok(token) => self.good_token(SECRET_REF, &source.before, token),
            Err(problem) => {
                self.wrong(SECRET_REF, format!("{}it {problem}", source.before), None, hint::TOKEN);
                None
            }
        }
    }

    fn good_token(&mut self, path: &str, before: &str, token: Secret) -> Option<Secret> {
        let good =
            token.expose().len() <= MAX_LENGTH && token.expose().bytes().all(|byte| byte.is_ascii_graphic());
        if !good {
            self.wrong(path, format!("{before}it is no token"), None, hint::TOKEN);
        }
        good.then_some(token)
    }
}
