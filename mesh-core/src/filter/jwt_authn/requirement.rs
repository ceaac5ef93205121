//! What tokens a request needs, and the evaluation of it.
//!
//! ```text
//!            ┌────────────── resume(outcome) ◄─────────────┐
//!  start ──► next check ──► Step::Check ──► (the caller) ──┘
//!                      └──► Step::Done
//! ```
//!
//! The caller verifies the token that a [`Check`] asks for, which may mean to wait for keys. `requires_any` ends with the first
//! check that succeeds, `requires_all` with the first one that fails. Envoy `JwtRequirement` and its verifiers.

use smallvec::SmallVec;

use super::{provider::Audiences, status::JwtStatus};

/// What a request must have. Envoy `jwt_authn.v3.JwtRequirement`, with positions in place of the names of providers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Requirement {
    /// Nothing.
    Nothing,
    /// A valid token of a provider.
    Provider {
        /// Its position in the filter's list.
        provider: usize,
        /// Audiences in place of the provider's; `None` = the provider's.
        audiences: Option<Audiences>,
    },
    /// One of several. Envoy `requires_any`.
    Any {
        /// The requirements, in the order in which they are tried.
        of: Vec<Self>,
        /// What is allowed besides.
        allow: Allow,
    },
    /// All of them. Envoy `requires_all`.
    All(Vec<Self>),
    /// A valid token of any provider, or what is allowed besides. Envoy `allow_missing` and `allow_missing_or_failed`.
    Optional(Allow),
}

/// What is allowed in place of a valid token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Allow {
    /// Nothing.
    #[default]
    Nothing,
    /// No token. Envoy `allow_missing`.
    Missing,
    /// No token, and invalid ones. Envoy `allow_missing_or_failed`.
    MissingOrFailed,
}

impl Requirement {
    /// One of `requirements`. Those that only allow something apply to all others, and are tokens of any provider if there
    /// are no others, as in Envoy.
    #[must_use]
    pub fn any(requirements: Vec<Self>) -> Self {
        let (mut of, mut allow) = (Vec::new(), Allow::Nothing);
        for requirement in requirements {
            match requirement {
                Self::Optional(Allow::MissingOrFailed) => allow = Allow::MissingOrFailed,
                Self::Optional(other) if allow == Allow::Nothing => allow = other,
                Self::Optional(_) => {}
                other => of.push(other),
            }
        }
        if of.is_empty() { Self::Optional(allow) } else { Self::Any { of, allow } }
    }
}

/// What the caller has to verify.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check<'r> {
    /// The request has a valid token of this provider.
    Provider {
        /// Its position.
        provider: usize,
        /// Audiences in place of the provider's.
        audiences: Option<&'r Audiences>,
    },
    /// All tokens of the request, of any provider, are valid, or what is allowed besides.
    AnyProvider(Allow),
}

/// The outcome of a [`Check`], or of the whole requirement.
pub type Outcome = Result<(), JwtStatus>;

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step<'r> {
    /// Verify this, then [`Evaluation::resume`].
    Check(Check<'r>),
    /// The requirement is fulfilled or not.
    Done(Outcome),
}

/// The evaluation of a requirement for one request.
#[derive(Debug)]
pub struct Evaluation<'r> {
    /// The groups around the current check, the innermost last.
    groups: SmallVec<[Group<'r>; 4]>,
}

#[derive(Debug)]
enum Group<'r> {
    Any { rest: &'r [Requirement], allow: Allow, failure: JwtStatus },
    All { rest: &'r [Requirement] },
}

impl<'r> Evaluation<'r> {
    /// Begins.
    #[must_use]
    pub fn start(requirement: &'r Requirement) -> (Self, Step<'r>) {
        let mut evaluation = Self { groups: SmallVec::new() };
        let step = evaluation.enter(requirement);
        (evaluation, step)
    }

    /// Continues with the outcome of a check.
    pub fn resume(&mut self, mut outcome: Outcome) -> Step<'r> {
        while let Some(group) = self.groups.last_mut() {
            if let Some(next) = group.handle(&mut outcome) {
                return self.enter(next);
            }
            self.groups.pop();
        }
        Step::Done(outcome)
    }

    fn enter(&mut self, requirement: &'r Requirement) -> Step<'r> {
        let mut requirement = requirement;
        loop {
            let (first, group) = match requirement {
                Requirement::Nothing => return self.resume(Ok(())),
                Requirement::Provider { provider, audiences } => {
                    return Step::Check(Check::Provider { provider: *provider, audiences: audiences.as_ref() });
                }
                Requirement::Optional(allow) => return Step::Check(Check::AnyProvider(*allow)),
                Requirement::Any { of, allow } => {
                    let Some((first, rest)) = of.split_first() else { return self.resume(Err(JwtStatus::Missed)) };
                    (first, Group::Any { rest, allow: *allow, failure: JwtStatus::Missed })
                }
                Requirement::All(of) => {
                    let Some((first, rest)) = of.split_first() else { return self.resume(Ok(())) };
                    (first, Group::All { rest })
                }
            };
            self.groups.push(group);
            requirement = first;
        }
    }
}

impl<'r> Group<'r> {
    /// Takes the outcome of a member. The next member, or none and the outcome of the group.
    fn handle(&mut self, outcome: &mut Outcome) -> Option<&'r Requirement> {
        match self {
            Self::All { rest } => {
                let (next, others) = outcome.ok().and_then(|()| rest.split_first())?;
                *rest = others;
                Some(next)
            }
            Self::Any { rest, allow, failure } => {
                let status = outcome.err()?;
                // What is wrong with a token says more than that there is none for a provider.
                let says_little = matches!(status, JwtStatus::Missed | JwtStatus::UnknownIssuer);
                if !says_little || *failure == JwtStatus::Missed {
                    *failure = status;
                }
                if let Some((next, others)) = rest.split_first() {
                    *rest = others;
                    return Some(next);
                }
                *outcome = allow.outcome(*failure);
                None
            }
        }
    }
}

impl Allow {
    /// The outcome if no token is valid.
    ///
    /// # Errors
    /// `failure`, unless that is allowed.
    pub fn outcome(self, failure: JwtStatus) -> Outcome {
        match (self, failure) {
            (Self::MissingOrFailed, _) | (Self::Missing, JwtStatus::Missed) => Ok(()),
            _ => Err(failure),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn provider(provider: usize) -> Requirement {
        Requirement::Provider { provider, audiences: None }
    }

    fn optional(allow: Allow) -> Requirement {
        Requirement::Optional(allow)
    }

    /// The outcome, and the providers that were checked, given the outcome for each provider.
    fn evaluate(requirement: &Requirement, outcomes: &[Outcome]) -> (Outcome, Vec<usize>) {
        let (mut evaluation, mut step) = Evaluation::start(requirement);
        let mut checked = Vec::new();
        loop {
            match step {
                Step::Done(outcome) => return (outcome, checked),
                Step::Check(Check::Provider { provider, .. }) => {
                    checked.push(provider);
                    step = evaluation.resume(outcomes[provider]);
                }
                Step::Check(Check::AnyProvider(allow)) => {
                    let failure = outcomes.iter().find_map(|outcome| outcome.err());
                    step = evaluation.resume(failure.map_or(Ok(()), |failure| allow.outcome(failure)));
                }
            }
        }
    }

    const MISSED: Outcome = Err(JwtStatus::Missed);
    const EXPIRED: Outcome = Err(JwtStatus::Expired);
    const UNKNOWN: Outcome = Err(JwtStatus::UnknownIssuer);
    const AUDIENCE: Outcome = Err(JwtStatus::AudienceNotAllowed);

    #[test]
    fn any_ends_with_the_first_success_and_all_with_the_first_failure() {
        let any = Requirement::any(vec![provider(0), provider(1), provider(2)]);
        let all = Requirement::All(vec![provider(0), provider(1), provider(2)]);
        assert_eq!(evaluate(&any, &[EXPIRED, Ok(()), MISSED]), (Ok(()), vec![0, 1]));
        assert_eq!(evaluate(&all, &[Ok(()), EXPIRED, MISSED]), (EXPIRED, vec![0, 1]));
        assert_eq!(evaluate(&all, &[Ok(()); 3]), (Ok(()), vec![0, 1, 2]));
        assert_eq!(evaluate(&Requirement::Nothing, &[]), (Ok(()), vec![]));
    }

    #[test]
    fn any_reports_what_is_wrong_with_a_token_rather_than_that_one_is_missing() {
        let any = Requirement::any(vec![provider(0), provider(1)]);
        for (outcomes, expected) in [
            ([MISSED, MISSED], MISSED),
            ([MISSED, UNKNOWN], UNKNOWN),
            ([UNKNOWN, MISSED], UNKNOWN),
            ([EXPIRED, MISSED], EXPIRED),
            ([EXPIRED, UNKNOWN], EXPIRED),
            ([UNKNOWN, EXPIRED], EXPIRED),
            ([EXPIRED, AUDIENCE], AUDIENCE),
        ] {
            assert_eq!(evaluate(&any, &outcomes).0, expected, "{outcomes:?}");
        }
    }

    #[test]
    fn an_invalid_token_is_not_treated_as_a_missing_one() {
        let missing = Requirement::any(vec![provider(0), optional(Allow::Missing)]);
        let failed = Requirement::any(vec![optional(Allow::Missing), optional(Allow::MissingOrFailed), provider(0)]);
        for (outcome, if_missing) in [(Ok(()), Ok(())), (MISSED, Ok(())), (EXPIRED, EXPIRED), (UNKNOWN, UNKNOWN)] {
            assert_eq!(evaluate(&missing, &[outcome]).0, if_missing);
            assert_eq!(evaluate(&failed, &[outcome]).0, Ok(()));
            assert_eq!(evaluate(&optional(Allow::Missing), &[outcome]).0, if_missing);
        }
        assert_eq!(Requirement::any(vec![optional(Allow::Missing)]), optional(Allow::Missing));
    }

    /// Istio's requirement for two rules.
    #[test]
    fn one_valid_token_suffices_although_another_location_fails() {
        let or_missing = |position| Requirement::any(vec![provider(position), optional(Allow::Missing)]);
        let all = Requirement::All(vec![or_missing(0), or_missing(1)]);
        let istio = Requirement::any(vec![provider(0), provider(1), all]);
        for (outcomes, expected) in [
            ([MISSED, MISSED], Ok(())),
            ([Ok(()), EXPIRED], Ok(())),
            ([EXPIRED, Ok(())], Ok(())),
            ([UNKNOWN, Ok(())], Ok(())),
            ([MISSED, EXPIRED], EXPIRED),
            ([EXPIRED, MISSED], EXPIRED),
            ([UNKNOWN, UNKNOWN], UNKNOWN),
        ] {
            assert_eq!(evaluate(&istio, &outcomes).0, expected, "{outcomes:?}");
        }
    }
}
