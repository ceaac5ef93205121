//! Header mutation: `envoy.extensions.filters.http.header_mutation.v3`.

use mesh_core::filter::header_mutation::{HeaderMutation, Mutation, Mutations};

use super::Decode;
use crate::decode::field::{At, Result, fields};
use crate::decode::header;
use crate::decode::value::{header_name, list, optional, required, string_matcher};
use crate::proto::envoy::config::common::mutation_rules::v3::{
    HeaderMutation as ProtoMutation,
    header_mutation::{Action, RemoveOnMatch},
};
use crate::proto::envoy::extensions::filters::http::header_mutation::v3 as proto;

impl Decode for HeaderMutation {
    type Message = proto::HeaderMutation;
    type PerRouteMessage = proto::HeaderMutationPerRoute;

    fn decode(at: &At<'_>, message: &proto::HeaderMutation) -> Result<Self> {
        let proto::HeaderMutation { mutations, most_specific_header_mutations_wins } = message;
        let mutations = optional(&at.field("mutations"), mutations.as_ref(), decode_mutations)?.unwrap_or_default();
        let mut model = Self::new(mutations);
        model.most_specific_header_mutations_wins = *most_specific_header_mutations_wins;
        Ok(model)
    }

    fn decode_per_route(at: &At<'_>, message: &proto::HeaderMutationPerRoute) -> Result<Mutations> {
        let proto::HeaderMutationPerRoute { mutations } = message;
        Ok(optional(&at.field("mutations"), mutations.as_ref(), decode_mutations)?.unwrap_or_default())
    }
}

fn decode_mutations(at: &At<'_>, mutations: &proto::Mutations) -> Result<Mutations> {
    fields! {
        proto::Mutations = mutations, at;
        use { request_mutations, response_mutations }
        ignore {}
        refuse { query_parameter_mutations, response_trailers_mutations, request_trailers_mutations }
    }
    Ok(Mutations::new(
        list(at, "request_mutations", request_mutations, decode_mutation)?,
        list(at, "response_mutations", response_mutations, decode_mutation)?,
    ))
}

fn decode_mutation(at: &At<'_>, mutation: &ProtoMutation) -> Result<Mutation> {
    match &mutation.action {
        Some(Action::Append(option)) => header::mutation(&at.field("append"), option).map(Mutation::Append),
        Some(Action::Remove(name)) => header_name(&at.field("remove"), name).map(Mutation::Remove),
        Some(Action::RemoveOnMatch(RemoveOnMatch { key_matcher })) => {
            let at = at.field("remove_on_match");
            let at = at.field("key_matcher");
            string_matcher(&at, required(&at, key_matcher.as_ref())?).map(Mutation::RemoveOnMatch)
        }
        None => Err(at.refuse("none of append, remove and remove_on_match is given")),
    }
}
