//! Which congestion controller a QUIC connection sends by, and how it tells loss from reordering.
//!
//! Values only; what they do on a bad path is measured by `millpond-bench path`.

use quinn::congestion::{BbrConfig, ControllerFactory, CubicConfig, NewRenoConfig};
use std::str::FromStr;
use std::sync::Arc;

/// How fast to send when nobody says what the path bears.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Congestion {
    /// Halves at every loss (RFC 9002, section 7).
    NewReno,
    /// What TCP does in most systems: backs off at loss, grows with time (RFC 9438).
    Cubic,
    /// Sends as fast as the path was seen to deliver, so that loss alone does not slow it down: for
    /// radio links. The default.
    #[default]
    Bbr,
}

impl Congestion {
    /// What makes the controllers of a connection.
    pub(crate) fn factory(self) -> Arc<dyn ControllerFactory + Send + Sync> {
        match self {
            Self::NewReno => Arc::new(NewRenoConfig::default()),
            Self::Cubic => Arc::new(CubicConfig::default()),
            Self::Bbr => Arc::new(BbrConfig::default()),
        }
    }
}

impl FromStr for Congestion {
    type Err = UnknownCongestion;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        match name {
            "newreno" => Ok(Self::NewReno),
            "cubic" => Ok(Self::Cubic),
            "bbr" => Ok(Self::Bbr),
            _ => Err(UnknownCongestion { name: name.to_owned() }),
        }
    }
}

/// The name of no controller.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no congestion controller `{name}`; there are newreno, cubic and bbr")]
pub struct UnknownCongestion {
    name: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn controllers_go_by_their_names() {
        assert_eq!("cubic".parse(), Ok(Congestion::Cubic));
        assert_eq!("newreno".parse(), Ok(Congestion::NewReno));
        assert_eq!("bbr".parse(), Ok(Congestion::default()));
        let error = "vegas".parse::<Congestion>().unwrap_err().to_string();
        assert!(error.contains("vegas") && error.contains("cubic"), "{error}");
    }
}
