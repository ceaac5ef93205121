//! The MongoDB filter of ports of protocol `MONGO`, which only counts messages.

use super::{Side, TcpChain, network_filter};
use crate::config::Protocol;
use crate::translate::proto::{any, listener, mongo};
use crate::translate::view::View;

pub(super) fn add_network(_: &View<'_>, _: Side, chain: &TcpChain<'_>, filters: &mut Vec<listener::Filter>) {
    if chain.protocol == Protocol::Mongo {
        let config = mongo::MongoProxy { stat_prefix: chain.stat_prefix.to_owned(), ..mongo::MongoProxy::default() };
        filters.push(network_filter("envoy.filters.network.mongo_proxy", any(&config)));
    }
}
