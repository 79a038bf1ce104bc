//! [`TokenRefused`]: why a token is not accepted. The reason goes to the client, to the log and to the metrics. It never
//! contains anything of the token: a name of a claim comes from the settings.

use log::Level;

/// Why a token is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TokenRefused {
    #[error("the token is longer than 16 KiB")]
    TooLong,
    #[error("the token is not a JWT that this server can read")]
    Malformed,
    #[error("the token is signed with an algorithm that is not used with the key of the issuer")]
    WrongAlgorithm,
    /// The token's `kid` is not in the JWKS file.
    #[error("the token is signed with a key that this server does not know")]
    UnknownKey,
    #[error("the signature of the token is not valid")]
    BadSignature,
    #[error("the token has expired")]
    Expired,
    #[error("the token is not valid yet")]
    NotYetValid,
    #[error("the token is from another issuer")]
    WrongIssuer,
    #[error("the token is for another audience")]
    WrongAudience,
    /// Missing, or not of the right type.
    #[error("the token has no valid claim `{0}`")]
    MissingClaim(String),
    #[error("the claim `{name}` of the token breaks a rule: {rule}")]
    InvalidClaim { name: String, rule: String },
}

impl TokenRefused {
    /// The reason as one word, for the metrics.
    pub(crate) const fn label(&self) -> &'static str {
        match self {
            TokenRefused::TooLong => "too_long",
            TokenRefused::Malformed => "malformed",
            TokenRefused::WrongAlgorithm => "wrong_algorithm",
            TokenRefused::UnknownKey => "unknown_key",
            TokenRefused::BadSignature => "bad_signature",
            TokenRefused::Expired => "expired",
            TokenRefused::NotYetValid => "not_yet_valid",
            TokenRefused::WrongIssuer => "wrong_issuer",
            TokenRefused::WrongAudience => "wrong_audience",
            TokenRefused::MissingClaim(_) => "missing_claim",
            TokenRefused::InvalidClaim { .. } => "invalid_claim",
        }
    }

    /// The level of the log line: every token expires; the other reasons are attacks or wrong settings.
    pub(crate) const fn level(&self) -> Level {
        match self {
            TokenRefused::Expired => Level::Info,
            _ => Level::Warn,
        }
    }
}
