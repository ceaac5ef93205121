//! Audit logs: which decisions are written, and what a line contains. gRFC A59.

use std::fmt::Write as _;

use crate::value::json_string;

/// Which decisions are audited, and by what. Envoy `config.rbac.v3.RBAC.AuditLoggingOptions`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Audit {
    /// Which decisions are audited. Default none.
    pub condition: AuditCondition,
    /// Where they are written.
    pub loggers: Vec<AuditLogger>,
}

/// Which decisions are audited. Envoy `AuditCondition`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AuditCondition {
    /// None.
    #[default]
    None,
    /// Denied requests.
    OnDeny,
    /// Allowed requests.
    OnAllow,
    /// All requests.
    OnDenyAndAllow,
}

/// Where decisions are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuditLogger {
    /// Standard output, one JSON object a line. Envoy `rbac.audit_loggers.stream.v3.StdoutAuditLog`.
    Stdout,
}

/// A decision that is audited. gRFC A59 `AuditContext`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct AuditEntry<'a> {
    /// The path, which is `/SERVICE/METHOD` for gRPC.
    pub rpc_method: &'a str,
    /// The peer's identity; empty if there is none.
    pub principal: &'a str,
    /// Name of what has decided, for example that of the listener.
    pub policy_name: &'a str,
    /// The policy that matches; empty if none does.
    pub matched_rule: &'a str,
    /// Whether the request is allowed.
    pub authorized: bool,
}

impl Audit {
    /// Decisions under a condition, written by loggers.
    #[must_use]
    pub fn new(condition: AuditCondition, loggers: Vec<AuditLogger>) -> Self {
        Self { condition, loggers }
    }

    /// Whether a decision is written.
    #[must_use]
    pub fn covers(&self, allowed: bool) -> bool {
        let is_covered = match self.condition {
            AuditCondition::None => false,
            AuditCondition::OnDeny => !allowed,
            AuditCondition::OnAllow => allowed,
            AuditCondition::OnDenyAndAllow => true,
        };
        is_covered && !self.loggers.is_empty()
    }
}

impl<'a> AuditEntry<'a> {
    /// An entry about a request for `rpc_method`.
    #[must_use]
    pub fn new(rpc_method: &'a str, principal: &'a str, matched_rule: &'a str, authorized: bool) -> Self {
        Self { rpc_method, principal, policy_name: "", matched_rule, authorized }
    }

    /// The entry as one line, as gRPC writes it. `timestamp` is in RFC 3339.
    #[must_use]
    pub fn to_json(&self, timestamp: &str) -> String {
        let mut line = b"{\"grpc_audit_log\":{".to_vec();
        let fields = [
            ("timestamp", timestamp),
            ("rpc_method", self.rpc_method),
            ("principal", self.principal),
            ("policy_name", self.policy_name),
            ("matched_rule", self.matched_rule),
        ];
        for (name, value) in fields {
            json_string(name.as_bytes(), &mut line);
            line.push(b':');
            json_string(value.as_bytes(), &mut line);
            line.push(b',');
        }
        let mut line = String::from_utf8(line).unwrap_or_default();
        writeln!(line, "\"authorized\":{}}}}}", self.authorized).expect("writing to a string does not fail");
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_condition_chooses_the_decisions() {
        let covered = |condition| {
            let audit = Audit::new(condition, vec![AuditLogger::Stdout]);
            (audit.covers(true), audit.covers(false))
        };
        assert_eq!(covered(AuditCondition::None), (false, false));
        assert_eq!(covered(AuditCondition::OnDeny), (false, true));
        assert_eq!(covered(AuditCondition::OnAllow), (true, false));
        assert_eq!(covered(AuditCondition::OnDenyAndAllow), (true, true));
        assert!(!Audit::new(AuditCondition::OnDenyAndAllow, Vec::new()).covers(true));
    }

    #[test]
    fn an_entry_is_one_line_of_json() {
        let entry = AuditEntry::new("/a.B/C", "spiffe://td/\"x\"", "rule", false);
        assert_eq!(
            entry.to_json("2026-01-02T03:04:05Z"),
            "{\"grpc_audit_log\":{\"timestamp\":\"2026-01-02T03:04:05Z\",\"rpc_method\":\"/a.B/C\",\"principal\":\
             \"spiffe://td/\\\"x\\\"\",\"policy_name\":\"\",\"matched_rule\":\"rule\",\"authorized\":false}}\n"
        );
    }
}
