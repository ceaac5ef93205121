//! A resolver with the system's configuration. The system's own resolver is not used, because it blocks and does not return the
//! TTL of a response.

use std::{
    net::IpAddr,
    sync::OnceLock,
    time::{Duration, Instant},
};

use hickory_resolver::{TokioResolver, lookup::Lookup, net::NetError, proto::rr::RecordType};
use mesh_core::model::DnsLookupFamily;

use super::{Answer, Resolve, ResolveError, Resolving};

/// Queries the name servers of the system's configuration. Names in the hosts file and IP addresses need no name
/// server.
///
/// The configuration is read when the first name is resolved, so it may be missing if none is.
#[derive(Debug, Default)]
pub struct SystemResolver(OnceLock<TokioResolver>);

impl SystemResolver {
    /// Time to live of an answer without addresses.
    const EMPTY_TIME_TO_LIVE: Duration = Duration::from_secs(5);

    /// Creates a resolver.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn resolver(&self, host: &str) -> Result<&TokioResolver, ResolveError> {
        if let Some(resolver) = self.0.get() {
            return Ok(resolver);
        }
        let failed = |error: NetError| ResolveError { host: host.to_owned(), reason: error.to_string() };
        let resolver = TokioResolver::builder_tokio().map_err(failed)?.build().map_err(failed)?;
        Ok(self.0.get_or_init(|| resolver))
    }

    async fn lookup(&self, host: &str, record: RecordType) -> Result<Answer, ResolveError> {
        match self.resolver(host)?.lookup(host, record).await {
            Ok(lookup) => Ok(answer(&lookup)),
            Err(error) if error.is_no_records_found() => {
                Ok(Answer { addresses: Vec::new(), time_to_live: Self::EMPTY_TIME_TO_LIVE })
            }
            Err(error) => Err(ResolveError { host: host.to_owned(), reason: error.to_string() }),
        }
    }

    async fn first_of(&self, host: &str, records: [RecordType; 2]) -> Result<Answer, ResolveError> {
        match self.lookup(host, records[0]).await {
            Ok(answer) if !answer.addresses.is_empty() => Ok(answer),
            first => self.lookup(host, records[1]).await.or(first),
        }
    }

    async fn both(&self, host: &str) -> Result<Answer, ResolveError> {
        match tokio::join!(self.lookup(host, RecordType::A), self.lookup(host, RecordType::AAAA)) {
            (Ok(mut answer), Ok(more)) => {
                answer.addresses.extend(more.addresses);
                answer.time_to_live = answer.time_to_live.min(more.time_to_live);
                Ok(answer)
            }
            (one, other) => one.or(other),
        }
    }
}

impl Resolve for SystemResolver {
    fn resolve<'a>(&'a self, host: &'a str, family: DnsLookupFamily) -> Resolving<'a> {
        Box::pin(async move {
            if let Ok(address) = host.parse::<IpAddr>() {
                return Ok(Answer { addresses: vec![address], time_to_live: Duration::MAX });
            }
            match family {
                DnsLookupFamily::V4Only => self.lookup(host, RecordType::A).await,
                DnsLookupFamily::V6Only => self.lookup(host, RecordType::AAAA).await,
                DnsLookupFamily::V4Preferred => self.first_of(host, [RecordType::A, RecordType::AAAA]).await,
                DnsLookupFamily::Auto => self.first_of(host, [RecordType::AAAA, RecordType::A]).await,
                DnsLookupFamily::All => self.both(host).await,
            }
        })
    }
}

fn answer(lookup: &Lookup) -> Answer {
    let mut addresses: Vec<IpAddr> = Vec::new();
    for address in lookup.answers().iter().filter_map(|record| record.data.ip_addr()) {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    Answer { addresses, time_to_live: lookup.valid_until().saturating_duration_since(Instant::now()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn addresses_and_localhost_need_no_name_server() {
        let resolver = SystemResolver::new();
        let check = async |host: &str, family, expected: &[&str]| {
            let expected: Vec<IpAddr> = expected.iter().map(|address| address.parse().unwrap()).collect();
            assert_eq!(resolver.resolve(host, family).await.unwrap().addresses, expected, "{host}");
        };
        check("192.0.2.7", DnsLookupFamily::V4Only, &["192.0.2.7"]).await;
        check("2001:db8::7", DnsLookupFamily::Auto, &["2001:db8::7"]).await;
        check("localhost", DnsLookupFamily::V4Only, &["127.0.0.1"]).await;
        check("localhost", DnsLookupFamily::V4Preferred, &["127.0.0.1"]).await;
    }
}
