//! What a listener does with each request, from its first byte to the last of its answer.

mod canonical;
