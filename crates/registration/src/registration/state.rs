//! State of a registration.

use serde::{Deserialize, Serialize};

/// State of a trunk's registration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum TrunkState {
    /// Never tried yet, or waiting for its first answer.
    Pending,
    /// The registrar holds a binding, and the last attempt succeeded.
    Registered,
    /// The registrar still holds a binding, but the last attempt to refresh it failed, or waits for a
    /// registrar or an EdgePort that is down.
    AtRisk,
    /// There is no binding, and the last attempt failed, or the next one waits for a registrar or an EdgePort
    /// that is down.
    Failing,
    /// The trunk as configured cannot be registered.
    Invalid,
    /// The binding is being removed.
    Deregistering,
}

impl TrunkState {
    /// All states, in the order in which a person wants to read them.
    pub const ALL: [Self; 6] =
        [Self::Registered, Self::AtRisk, Self::Failing, Self::Invalid, Self::Pending, Self::Deregistering];

    /// Returns whether someone may have to do something about it.
    pub fn is_unhealthy(self) -> bool {
        matches!(self, Self::AtRisk | Self::Failing | Self::Invalid)
    }

    /// The name as JSON, metrics and tables show it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Registered => "registered",
            Self::AtRisk => "atRisk",
            Self::Failing => "failing",
            Self::Invalid => "invalid",
            Self::Deregistering => "deregistering",
        }
    }

    /// Reads a name as [`TrunkState::name`] writes it, in any case.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|s| s.name().eq_ignore_ascii_case(name))
    }
}
