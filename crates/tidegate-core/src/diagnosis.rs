//! The catalogue: every cause of failure that Tidegate knows, with its stable id and everything said about it.
//!
//! Every refusal, failure and close carries a [`Diagnosis`], in the log, in the journal and, for those who may
//! see it, in the answer. An id never changes its meaning; a retired one stays as an alias. What `explain`, `doctor`,
//! the manual and the client library say about an id is read from its [`Cause`], so that they cannot disagree.
//!
//! One file for some symptoms each; [`search`] has the tables that lead from what people see (close codes,
//! statuses, error texts) to ids.

use std::collections::HashMap;
use std::fmt;
use std::sync::LazyLock;

/// The stable name of one cause.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Diagnosis(&'static str);

/// What is known about one cause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cause {
    /// Its id.
    pub diagnosis: Diagnosis,
    /// Number of the symptom (1 to 38) that it belongs to; 0 for what only Tidegate has.
    pub symptom: u8,
    /// Where the cause was named: `[0]` to `[3]` documents, `[+]` reports of users, `[s]` seen in the systems
    /// themselves, `[g]` a condition of the gateway.
    pub named_by: &'static str,
    /// Where it can be established: letters `G`, `G*`, `B`, `D`, `C`, `L`; in parentheses those that only suggest
    /// it; `-` for nowhere. See [`Cause::is_provable`].
    pub seen: &'static str,
    /// The finding, one sentence.
    pub title: &'static str,
    /// Why it happens.
    pub cause: &'static str,
    /// What proves it, or what comes closest.
    pub proof: &'static str,
    /// What the client gets.
    pub client: &'static str,
    /// What to do about it; an action.
    pub fix: &'static str,
}

impl Cause {
    /// Can some part of Tidegate prove it, or can it only be suggested or not be seen at all?
    pub fn is_provable(&self) -> bool {
        self.seen.split(' ').any(|letter| letter != "-" && !letter.starts_with('('))
    }

    /// Can no means of Tidegate detect it?
    pub fn is_undetectable(&self) -> bool {
        self.seen == "-"
    }
}

impl Cause {
    /// One sentence for clients (DX-14), in which nothing stands that they must not know: whether a user exists,
    /// limits of others, names of hosts, software or rules.
    pub fn said_to_client(&self) -> &'static str {
        said::to_client(self)
    }

    /// What an answer has to state beside a cause that no part of Tidegate can prove: that it cannot be seen or can
    /// only be suggested, what comes closest, what would prove it and what to check by hand.
    ///
    /// `None` for causes that can be proven.
    pub fn what_was_seen(&self) -> Option<String> {
        if self.is_undetectable() {
            let Self { proof, fix, .. } = self;
            return Some(format!("No part of Tidegate can see this cause. {proof} By hand: {fix}"));
        }
        let suggested = || format!("This cause can only be suggested, not proven, from here. {}", self.proof);
        (!self.is_provable()).then(suggested)
    }
}

impl Diagnosis {
    /// The diagnosis of an id or of one of its aliases.
    pub fn find(id: &str) -> Option<Self> {
        Self::exact(id).or_else(|| {
            let alias = search::ALIASES.iter().find(|(alias, _)| *alias == id);
            alias.and_then(|(_, ids)| ids.first()).copied()
        })
    }

    fn exact(id: &str) -> Option<Self> {
        BY_ID.get(id).copied()
    }

    /// The id, as `explain` takes it.
    pub const fn as_str(self) -> &'static str {
        self.0
    }

    /// Everything that is known about it.
    pub fn describe(self) -> &'static Cause {
        // An id cannot be made without its row: the same macro makes both.
        Self::all().find(|cause| cause.diagnosis == self).unwrap_or(&own::CAUSES[0])
    }

    /// Every cause, in the order of the catalogue.
    pub fn all() -> impl Iterator<Item = &'static Cause> {
        PARTS.iter().flat_map(|part| part.iter())
    }
}

impl fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl fmt::Debug for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

// A macro and not a function, so that an id exists exactly when its row does.
macro_rules! causes {
    ($($name:ident $id:literal $symptom:literal $named_by:literal $seen:literal
        title $title:literal
        cause $cause:literal
        proof $proof:literal
        client $client:literal
        fix $fix:literal;)*) => {
        impl super::Diagnosis {
            $(#[doc = $title] pub const $name: Self = Self($id);)*
        }

        pub(super) const CAUSES: &[super::Cause] = &[$(super::Cause {
            diagnosis: super::Diagnosis($id),
            symptom: $symptom,
            named_by: $named_by,
            seen: $seen,
            title: $title,
            cause: $cause,
            proof: $proof,
            client: $client,
            fix: $fix,
        }),*];
    };
}

mod between;
mod connecting;
mod credentials;
mod identity;
mod messages;
mod operating;
mod own;
mod pushes;
mod reaching;
mod said;
pub mod search;

/// The causes by their ids: `explain` asks for those of many thousand entries.
static BY_ID: LazyLock<HashMap<&str, Diagnosis>> =
    LazyLock::new(|| Diagnosis::all().map(|cause| (cause.diagnosis.0, cause.diagnosis)).collect());

/// The parts of the catalogue, in its order.
const PARTS: [&[Cause]; 9] = [
    reaching::CAUSES,
    between::CAUSES,
    credentials::CAUSES,
    connecting::CAUSES,
    identity::CAUSES,
    messages::CAUSES,
    pushes::CAUSES,
    operating::CAUSES,
    own::CAUSES,
];

#[cfg(test)]
mod tests;
