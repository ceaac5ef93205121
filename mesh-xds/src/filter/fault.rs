//! Fault injection: `envoy.extensions.filters.http.fault.v3.HTTPFault`.

use std::num::NonZeroU32;

use mesh_core::filter::fault::{Abort, AbortStatus, Delay, Fault};
use mesh_core::model::FractionalPercent;

use super::Decode;
use crate::decode::field::{At, Result, fields};
use crate::decode::header;
use crate::decode::value::{NO_RUNTIME, fraction, in_range, list, optional, positive_duration, status};
use crate::proto::envoy::extensions::filters::common::fault::v3::{FaultDelay, fault_delay::FaultDelaySecifier};
use crate::proto::envoy::extensions::filters::http::fault::v3::{FaultAbort, HttpFault, fault_abort::ErrorType};

impl Decode for Fault {
    type Message = HttpFault;
    type PerRouteMessage = HttpFault;

    fn decode(at: &At<'_>, message: &HttpFault) -> Result<Self> {
        decode_fault(at, message)
    }

    fn decode_per_route(at: &At<'_>, message: &HttpFault) -> Result<Self> {
        decode_fault(at, message)
    }
}

fn decode_fault(at: &At<'_>, fault: &HttpFault) -> Result<Fault> {
    fields! {
        HttpFault = fault, at;
        use { delay, abort, upstream_cluster, headers, max_active_faults }
        ignore {
            delay_percent_runtime: NO_RUNTIME,
            abort_percent_runtime: NO_RUNTIME,
            delay_duration_runtime: NO_RUNTIME,
            abort_http_status_runtime: NO_RUNTIME,
            max_active_faults_runtime: NO_RUNTIME,
            response_rate_limit_percent_runtime: NO_RUNTIME,
            abort_grpc_status_runtime: NO_RUNTIME,
            disable_downstream_cluster_stats: "no statistics per downstream cluster are kept",
        }
        refuse { downstream_nodes, response_rate_limit, filter_metadata }
    }
    let mut model = Fault::default();
    model.delay = optional(&at.field("delay"), delay.as_ref(), decode_delay)?;
    model.abort = optional(&at.field("abort"), abort.as_ref(), decode_abort)?;
    model.headers = list(at, "headers", headers, header::matcher)?;
    model.upstream_cluster = (!upstream_cluster.is_empty()).then(|| upstream_cluster.as_str().into());
    model.max_active_faults = optional(&at.field("max_active_faults"), max_active_faults.as_ref(), |at, max| {
        NonZeroU32::new(*max).ok_or_else(|| at.refuse("0 turns the filter off; leave the filter out instead"))
    })?;
    Ok(model)
}

fn decode_delay(at: &At<'_>, delay: &FaultDelay) -> Result<Delay> {
    let FaultDelay { percentage, fault_delay_secifier } = delay;
    let fixed_delay = match fault_delay_secifier {
        Some(FaultDelaySecifier::FixedDelay(delay)) => Some(positive_duration(&at.field("fixed_delay"), delay)?),
        Some(FaultDelaySecifier::HeaderDelay(_)) => None,
        None => return Err(at.refuse("neither fixed_delay nor header_delay is given")),
    };
    // An absent percentage means never, as Envoy's default of the message is 0 %.
    let percentage = optional(&at.field("percentage"), percentage.as_ref(), fraction)?;
    Ok(Delay { fixed_delay, percentage: percentage.unwrap_or(FractionalPercent::ZERO) })
}

fn decode_abort(at: &At<'_>, abort: &FaultAbort) -> Result<Abort> {
    fields! {
        FaultAbort = abort, at;
        use { percentage, error_type }
        ignore {}
        refuse { response_body }
    }
    let status = match error_type {
        Some(ErrorType::HttpStatus(code)) => AbortStatus::Http(status(&at.field("http_status"), code)?),
        Some(ErrorType::GrpcStatus(code)) => AbortStatus::Grpc(in_range(&at.field("grpc_status"), *code, 0, 16)?),
        Some(ErrorType::HeaderAbort(_)) => AbortStatus::Header,
        None => return Err(at.refuse("none of http_status, grpc_status and header_abort is given")),
    };
    let percentage = optional(&at.field("percentage"), percentage.as_ref(), fraction)?;
    Ok(Abort::new(status, percentage.unwrap_or(FractionalPercent::ZERO)))
}
