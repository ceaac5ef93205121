//! Injected faults.

use super::{Side, http_filter};
use crate::config::{Abort, Delay, Fault, FaultStatus, HttpRoute};
use crate::translate::proto::{any, duration, fault, fault_common, http, percent};
use crate::translate::view::View;
use prost_types::Any;

pub(in crate::translate) const NAME: &str = "envoy.filters.http.fault";

pub(super) fn add_http(_: &View<'_>, _: Side, filters: &mut Vec<http::HttpFilter>) {
    filters.push(http_filter(NAME, any(&fault::HttpFault::default())));
}

pub(super) fn configure_route(rule: &HttpRoute) -> Option<(&'static str, Any)> {
    rule.fault.as_ref().map(|fault| (NAME, any(&http_fault(fault))))
}

fn http_fault(fault: &Fault) -> fault::HttpFault {
    fault::HttpFault { delay: fault.delay.map(delay), abort: fault.abort.map(abort), ..fault::HttpFault::default() }
}

fn delay(Delay { parts_per_million, fixed_delay }: Delay) -> fault_common::FaultDelay {
    fault_common::FaultDelay {
        percentage: Some(share(parts_per_million)),
        fault_delay_secifier: Some(fault_common::fault_delay::FaultDelaySecifier::FixedDelay(duration(fixed_delay))),
    }
}

fn abort(Abort { parts_per_million, status }: Abort) -> fault::FaultAbort {
    use fault::fault_abort::ErrorType;
    fault::FaultAbort {
        percentage: Some(share(parts_per_million)),
        error_type: Some(match status {
            FaultStatus::Http(status) => ErrorType::HttpStatus(status.into()),
            FaultStatus::Grpc(status) => ErrorType::GrpcStatus(status.into()),
        }),
        ..fault::FaultAbort::default()
    }
}

fn share(parts_per_million: u32) -> percent::FractionalPercent {
    percent::FractionalPercent {
        numerator: parts_per_million,
        denominator: percent::fractional_percent::DenominatorType::Million.into(),
    }
}
