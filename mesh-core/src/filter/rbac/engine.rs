//! Evaluates policies on requests.

use std::fmt;

use hashbrown::HashSet;

use super::{
    audit::Audit,
    decision::Decision,
    index::{Index, Text, for_each_text},
    rules::{Action, Condition, OrderedRule, Policy, Rules},
    subject::{Quantifier, Subject},
};
use crate::value::{HeaderKey, HeaderMatch, StringMatcher, StringPattern};

/// From how many exact values on an `Or` looks them up instead of comparing each.
const MIN_SET: usize = 8;

/// Policies, compiled for requests: the cost of a request depends on the policies that are about its path, identity and
/// so on, not on the number of the others. No allocation.
pub struct Engine {
    source: Source,
    audit: Audit,
    policies: Vec<Compiled>,
    index: Index,
    reads_metadata: bool,
}

/// What was compiled.
#[derive(Debug, PartialEq)]
enum Source {
    /// Policies with one action, in the order of their names.
    Policies(Rules),
    /// Rules with an action each, in their order.
    Ordered(Vec<OrderedRule>),
}

/// A policy and its name.
struct Compiled {
    name: Box<str>,
    permissions: Node,
    principals: Node,
}

/// A [`Condition`] in the form in which it is evaluated.
#[derive(Debug)]
enum Node {
    And(Box<[Self]>),
    Or(Box<[Self]>),
    Not(Box<Self>),
    /// The text is one of these.
    OneOf(Text, HashSet<Box<[u8]>>),
    Leaf(Condition),
}

impl Engine {
    /// Compiles policies.
    #[must_use]
    pub fn new(rules: Rules) -> Self {
        let sides = rules.policies.values().map(|policy| [&*policy.permissions, &*policy.principals]);
        let index = Index::new(sides);
        let compile = |name: &str, policy: &Policy| Compiled {
            name: name.into(),
            permissions: Node::any(&policy.permissions),
            principals: Node::any(&policy.principals),
        };
        let policies = rules.policies.iter().map(|(name, policy)| compile(name, policy)).collect();
        let mut conditions = rules.policies.values().flat_map(|it| it.permissions.iter().chain(&it.principals));
        let reads_metadata = conditions.any(Condition::reads_metadata);
        Self { audit: rules.audit.clone(), source: Source::Policies(rules), policies, index, reads_metadata }
    }

    /// Compiles rules of which the first that matches decides. A request that none matches is denied.
    #[must_use]
    pub fn ordered(rules: Vec<OrderedRule>) -> Self {
        let always = [Condition::Always];
        let index = Index::new(rules.iter().map(|rule| [std::slice::from_ref(&rule.condition), &always[..]]));
        let compile = |rule: &OrderedRule| Compiled {
            name: rule.name.clone(),
            permissions: Node::new(&rule.condition),
            principals: Node::Leaf(Condition::Always),
        };
        let policies = rules.iter().map(compile).collect();
        let reads_metadata = rules.iter().any(|rule| rule.condition.reads_metadata());
        Self { audit: Audit::default(), source: Source::Ordered(rules), policies, index, reads_metadata }
    }

    /// The policies as configured; `None` if it has ordered rules.
    #[must_use]
    pub fn rules(&self) -> Option<&Rules> {
        match &self.source {
            Source::Policies(rules) => Some(rules),
            Source::Ordered(_) => None,
        }
    }

    /// Which decisions are audited.
    #[must_use]
    pub fn audit(&self) -> &Audit {
        &self.audit
    }

    /// The names of the policies or rules, by their positions.
    pub fn policy_names(&self) -> impl Iterator<Item = &str> {
        self.policies.iter().map(|policy| &*policy.name)
    }

    /// The action of what has matched; `None` if nothing has, or if it decides nothing.
    fn action(&self, matched: Option<u32>) -> Option<Action> {
        match &self.source {
            Source::Policies(rules) => Some(rules.action),
            Source::Ordered(rules) => rules.get(matched? as usize)?.action,
        }
    }

    /// Whether a request is marked for access logs; `None` if it is left as it is.
    pub(super) fn access_log_hint(&self, matched: Option<u32>) -> Option<bool> {
        (self.action(matched) == Some(Action::Log)).then_some(matched.is_some())
    }

    /// As [`Quantifier`] says, by what follows if the policy or rule matches.
    fn quantifier(&self, position: u32) -> Quantifier {
        match self.action(Some(position)) {
            Some(Action::Allow) => Quantifier::All,
            Some(Action::Log) if self.rules().is_none() => Quantifier::All,
            Some(Action::Deny | Action::Log) | None => Quantifier::Any,
        }
    }

    /// Whether a decision depends on dynamic metadata.
    #[must_use]
    pub fn reads_metadata(&self) -> bool {
        self.reads_metadata
    }

    /// The name of the policy at a position, in the order of names.
    pub(super) fn policy_name(&self, position: u32) -> Option<&str> {
        Some(&self.policies.get(position as usize)?.name)
    }

    /// Decides about a request.
    #[must_use]
    pub fn decide(&self, subject: &Subject<'_>) -> Decision<'_> {
        let matched = self.find(subject);
        let allowed = match &self.source {
            Source::Policies(rules) => match rules.action {
                Action::Allow => matched.is_some(),
                Action::Deny => matched.is_none(),
                Action::Log => true,
            },
            Source::Ordered(_) => matches!(self.action(matched), Some(Action::Allow | Action::Log)),
        };
        Decision::new(self, matched, allowed)
    }

    /// The position of the first policy that matches.
    fn find(&self, subject: &Subject<'_>) -> Option<u32> {
        let mut first = u32::MAX;
        self.index.candidates(subject, &mut |positions| {
            for position in positions.iter().copied().take_while(|position| *position < first) {
                let (policy, quantifier) = (&self.policies[position as usize], self.quantifier(position));
                if policy.permissions.holds(subject, quantifier) && policy.principals.holds(subject, quantifier) {
                    first = position;
                    break;
                }
            }
        });
        (first != u32::MAX).then_some(first)
    }
}

impl Node {
    fn new(condition: &Condition) -> Self {
        match condition {
            Condition::And(all) => match &**all {
                [one] => Self::new(one),
                all => Self::And(all.iter().map(Self::new).collect()),
            },
            Condition::Or(any) => Self::any(any),
            Condition::Not(inner) => Self::Not(Box::new(Self::new(inner))),
            leaf => Self::Leaf(leaf.clone()),
        }
    }

    /// One of the conditions holds.
    fn any(conditions: &[Condition]) -> Self {
        if let [one] = conditions {
            return Self::new(one);
        }
        let mut sets: Vec<(Text, HashSet<Box<[u8]>>)> = Vec::new();
        for (text, value) in conditions.iter().filter_map(exact) {
            match sets.iter_mut().find(|(other, _)| *other == text) {
                Some((_, set)) => drop(set.insert(value.as_bytes().into())),
                None => sets.push((text, HashSet::from_iter([value.as_bytes().into()]))),
            }
        }
        sets.retain(|(_, set)| set.len() >= MIN_SET);
        let is_in_set = |condition: &&Condition| {
            exact(condition).is_some_and(|(text, _)| sets.iter().any(|(other, _)| *other == text))
        };
        let others: Vec<_> = conditions.iter().filter(|condition| !is_in_set(condition)).map(Self::new).collect();
        let sets = sets.into_iter().map(|(text, set)| Self::OneOf(text, set));
        Self::Or(sets.chain(others).collect())
    }

    fn holds(&self, subject: &Subject<'_>, quantifier: Quantifier) -> bool {
        match self {
            Self::And(all) => all.iter().all(|node| node.holds(subject, quantifier)),
            Self::Or(any) => any.iter().any(|node| node.holds(subject, quantifier)),
            Self::Not(inner) => !inner.holds(subject, quantifier.inverted()),
            Self::OneOf(text, set) => {
                let mut found = false;
                for_each_text(text, subject, |value| found = found || set.contains(value));
                found
            }
            Self::Leaf(condition) => subject.holds(condition, quantifier),
        }
    }
}

/// The text that a condition compares with one value, if it has at most one value or one suffices.
fn exact(condition: &Condition) -> Option<(Text, &str)> {
    match condition {
        Condition::UrlPath(matcher) => Some((Text::Path, exact_value(matcher)?)),
        Condition::Authenticated(Some(matcher)) => Some((Text::Identity, exact_value(matcher)?)),
        Condition::RequestedServerName(matcher) => Some((Text::ServerName, exact_value(matcher)?)),
        // Pseudo-headers are not repeated.
        Condition::Header(matcher)
            if !matcher.invert_match
                && !matcher.treat_missing_header_as_empty
                && !matches!(matcher.key, HeaderKey::Field(_)) =>
        {
            match &matcher.matches {
                HeaderMatch::String(value) => Some((Text::Header(matcher.key.clone()), exact_value(value)?)),
                HeaderMatch::Present(_) | HeaderMatch::Range { .. } => None,
            }
        }
        _ => None,
    }
}

fn exact_value(matcher: &StringMatcher) -> Option<&str> {
    match matcher.pattern() {
        StringPattern::Exact(value) if !matcher.ignores_case() => Some(value),
        _ => None,
    }
}

impl PartialEq for Engine {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("source", &self.source).finish_non_exhaustive()
    }
}
