//! What can be the name of a host: configuration and appenders judge it alike.

/// Whether a text can be the name of a host: RFC 1123, and underscores, which Windows allows. A name
/// whose last label is a number would be an address that was mistyped.
#[must_use]
pub(crate) fn is_host_name(text: &str) -> bool {
    const NAME_MAX: usize = 253;
    const LABEL_MAX: usize = 63;
    let name = text.strip_suffix('.').unwrap_or(text);
    let plausible = |label: &str| {
        (1..=LABEL_MAX).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let numeric = |label: &str| label.bytes().all(|b| b.is_ascii_digit());
    name.len() <= NAME_MAX
        && name.split('.').all(plausible)
        && !name.rsplit('.').next().is_none_or(numeric)
}
