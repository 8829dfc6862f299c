//! Errors and their causes as text.

/// Returns the error with its causes; many an error includes its cause itself, and it is not said twice.
pub fn error_chain(error: &dyn std::error::Error) -> String {
    std::iter::successors(error.source(), |cause| cause.source()).fold(error.to_string(), |text, cause| {
        let cause = cause.to_string();
        if text.contains(&cause) { text } else { format!("{text}: {cause}") }
    })
}

/// The innermost cause of an error: `Connection refused (os error 111)` rather than `client error (Connect)`.
pub fn innermost(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}
