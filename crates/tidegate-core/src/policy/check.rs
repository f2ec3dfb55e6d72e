//! What is wrong with a policy, and with which of its values.

/// One thing that is wrong, or that an operator should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyProblem {
    /// Where, from the policy on: `channels.rules[2].join.any[0][1]`.
    pub path: String,
    /// Stable name of the class, an id of [`crate::diagnosis`].
    pub id: &'static str,
    /// For whoever wrote the policy. Never has a secret in it.
    pub message: String,
    /// The policy cannot be used. Otherwise it is a warning.
    pub is_error: bool,
}

impl PolicyProblem {
    /// A value that cannot be used.
    pub(crate) fn invalid(path: impl Into<String>, message: impl Into<String>) -> Self {
        let id = crate::diagnosis::Diagnosis::CONFIG_INVALID_VALUE.as_str();
        Self { path: path.into(), id, message: message.into(), is_error: true }
    }
}
