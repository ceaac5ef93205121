//! The client.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use bytes::Bytes;
use clap::Args;
use mesh::{Channel, Mesh};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tonic::{
    Code, Request, Status,
    client::Grpc,
    codegen::http::uri::PathAndQuery,
    metadata::{AsciiMetadataKey, AsciiMetadataValue, MetadataMap},
};

use crate::{BoxError, codec::BytesCodec};

#[derive(Clone, Debug, Args)]
pub(crate) struct Call {
    /// The target, such as `xds:///echo`.
    target: String,
    /// How many calls are made.
    number: usize,
    /// The pause after each call, in milliseconds.
    #[arg(long, default_value_t = 0.0)]
    gap_ms: f64,
    /// The method of the service.
    #[arg(long, default_value = "Say")]
    method: String,
    /// Metadata of every call, as `KEY=VALUE`.
    #[arg(long)]
    md: Vec<String>,
    /// The deadline of every call, in seconds.
    #[arg(long, default_value_t = 15.0)]
    timeout: f64,
    /// Make all calls at once, and have the server hold each of them for so long, in milliseconds.
    #[arg(long, default_value_t = 0)]
    hold_ms: u64,
    /// Has no effect: calls wait for their configuration, and not for an endpoint.
    #[arg(long)]
    no_wait: bool,
    /// Has no effect: transport security is what the control plane says.
    #[arg(long)]
    xds_creds: bool,
}

/// How calls ended.
#[derive(Debug, Default)]
struct Outcomes {
    answers: BTreeMap<String, usize>,
    errors: BTreeMap<String, usize>,
    sample: Value,
    last: String,
    waits: Vec<Duration>,
}

impl Call {
    pub(crate) async fn run(mut self) -> Result<(), BoxError> {
        let mesh = Mesh::builder().xds_from_env()?.build().await?;
        let channel = mesh.channel(&self.target)?;
        let mut outcomes = Outcomes::default();
        if self.hold_ms > 0 {
            self.md.push(format!("x-rig-sleep-ms={}", self.hold_ms));
            let mut calls = JoinSet::new();
            for number in 0..self.number {
                calls.spawn(self.clone().call(channel.clone(), number));
            }
            while let Some(ended) = calls.join_next().await {
                outcomes.add(ended?);
            }
        } else {
            for number in 0..self.number {
                outcomes.add(self.clone().call(channel.clone(), number).await);
                tokio::time::sleep(Duration::from_secs_f64(self.gap_ms / 1e3)).await;
            }
        }
        crate::print(&outcomes.into_json());
        Ok(())
    }

    /// Makes one call; returns how it ended and how long it took.
    async fn call(self, channel: Channel, number: usize) -> (Result<Bytes, Status>, Duration) {
        let start = Instant::now();
        let sent = async {
            let mut request = Request::new(Bytes::from(format!("m{number}")));
            *request.metadata_mut() = self.metadata()?;
            request.set_timeout(Duration::from_secs_f64(self.timeout));
            let path = PathAndQuery::try_from(format!("/rig.Echo/{}", self.method));
            let path = path.map_err(|error| Status::invalid_argument(error.to_string()))?;
            let mut client = Grpc::new(channel);
            client.ready().await.map_err(|error| Status::unknown(error.to_string()))?;
            client.unary(request, path, BytesCodec).await
        };
        // As every gRPC client, it does not wait longer than its deadline, whatever the other side does.
        let limit = Duration::from_secs_f64(self.timeout);
        let answer = tokio::time::timeout(limit, sent).await;
        let answer = answer.unwrap_or_else(|_| Err(Status::deadline_exceeded("Deadline Exceeded")));
        (answer.map(tonic::Response::into_inner), start.elapsed())
    }

    fn metadata(&self) -> Result<MetadataMap, Status> {
        let mut metadata = MetadataMap::new();
        for entry in &self.md {
            let invalid = || Status::invalid_argument(format!("metadata {entry:?} is not KEY=VALUE"));
            let (key, value) = entry.split_once('=').ok_or_else(invalid)?;
            let key: AsciiMetadataKey = key.parse().map_err(|_| invalid())?;
            let value: AsciiMetadataValue = value.parse().map_err(|_| invalid())?;
            metadata.append(key, value);
        }
        Ok(metadata)
    }
}

impl Outcomes {
    fn add(&mut self, (answer, wait): (Result<Bytes, Status>, Duration)) {
        match answer {
            Ok(answer) => {
                let answer: Value = serde_json::from_slice(&answer).unwrap_or_default();
                let by = answer["by"].as_str().unwrap_or_default().to_owned();
                *self.answers.entry(by).or_default() += 1;
                self.sample = answer;
                "ok".clone_into(&mut self.last);
            }
            Err(status) => {
                let code = name(status.code());
                *self.errors.entry(format!("{code}: {}", status.message())).or_default() += 1;
                code.clone_into(&mut self.last);
            }
        }
        self.waits.push(wait);
    }

    fn into_json(self) -> Value {
        let seconds = |wait: Option<&Duration>| (wait.map_or(0.0, Duration::as_secs_f64) * 1e3).round() / 1e3;
        json!({
            "answers": self.answers,
            "errors": self.errors,
            "sample": self.sample,
            "last": self.last,
            "wait_s": {"min": seconds(self.waits.iter().min()), "max": seconds(self.waits.iter().max())},
        })
    }
}

/// The name of a code in gRPC's documentation.
pub(crate) fn name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}
