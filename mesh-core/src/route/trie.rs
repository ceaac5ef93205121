//! A radix tree over byte strings. One walk finds every key that is a prefix of a text.
//!
//! The tree is built once and then read-only. All nodes are stored in one vector, the children of a node next to each
//! other and in order, and short labels and single values in the nodes themselves. A walk therefore reads one node per
//! branch and little else, which matters because a tree of 100,000 keys does not fit into CPU caches. Keys may repeat; the
//! values of equal keys keep their order.

use std::{ops::Range, slice};

/// A radix tree that maps keys to values of type `V`.
#[derive(Debug)]
pub(super) struct Trie<V> {
    nodes: Vec<Node<V>>,
    /// The byte before the label of each node, by which a child is selected. Stored apart from `nodes`, so that a selection
    /// reads one cache line. The root's byte is unused, and [`LANES`] unused bytes follow the last node's.
    first_bytes: Vec<u8>,
    /// Labels and values that do not fit into their nodes.
    labels: Vec<u8>,
    values: Vec<Box<[V]>>,
}

/// Two nodes fill a cache line if a value takes no more than 8 bytes.
#[derive(Debug)]
#[repr(align(32))]
struct Node<V> {
    /// The first bytes of the label.
    label: [u8; INLINE_LABEL],
    label_length: u32,
    /// Position of the rest of the label in [`Trie::labels`].
    label_rest: u32,
    children: Children,
    values: Values<V>,
}

const INLINE_LABEL: usize = 4;

/// Number of children that are compared with a byte at once.
const LANES: usize = 16;

/// The values of the key that ends at a node.
#[derive(Debug)]
enum Values<V> {
    None,
    One(V),
    /// Position of the values in [`Trie::values`].
    Several(u32),
}

/// Position of the first child, and the number of children, at most 256.
#[derive(Debug, Default)]
struct Children {
    start: u32,
    count: u16,
}

impl<V> Default for Node<V> {
    fn default() -> Self {
        Self {
            label: [0; INLINE_LABEL],
            label_length: 0,
            label_rest: 0,
            children: Children::default(),
            values: Values::None,
        }
    }
}

impl<V> Node<V> {
    /// Whether `text` has the label at `index`. `labels` are the tree's.
    fn matches<T: Text>(&self, text: T, index: usize, labels: &[u8]) -> bool {
        let length = self.label_length as usize;
        // Comparing empty slices is not free: a masked load from a dangling pointer takes about 80 ns.
        if length == 0 {
            return true;
        }
        let inline = length.min(INLINE_LABEL);
        let rest = || &labels[self.label_rest as usize..][..length - inline];
        text.has(index, &self.label[..inline]) && (length == inline || text.has(index + inline, rest()))
    }
}

/// A text that a [`Trie`] can be walked along.
pub(super) trait Text: Copy {
    /// Length in bytes.
    fn len(self) -> usize;
    /// The byte at `index`, which is less than the length.
    fn at(self, index: usize) -> u8;
    /// Whether the bytes at `index` are `label`. There may be fewer bytes left.
    fn has(self, index: usize, label: &[u8]) -> bool;
}

/// A text without conversion.
#[derive(Clone, Copy)]
pub(super) struct Plain<'a>(pub(super) &'a [u8]);

/// A text with ASCII letters in lower case.
#[derive(Clone, Copy)]
pub(super) struct Lowercase<'a>(pub(super) &'a [u8]);

/// A reversed text with ASCII letters in lower case.
#[derive(Clone, Copy)]
pub(super) struct ReversedLowercase<'a>(pub(super) &'a [u8]);

impl Text for Plain<'_> {
    fn len(self) -> usize {
        self.0.len()
    }

    fn at(self, index: usize) -> u8 {
        self.0[index]
    }

    fn has(self, index: usize, label: &[u8]) -> bool {
        self.0[index..].starts_with(label)
    }
}

impl Text for Lowercase<'_> {
    fn len(self) -> usize {
        self.0.len()
    }

    fn at(self, index: usize) -> u8 {
        self.0[index].to_ascii_lowercase()
    }

    fn has(self, index: usize, label: &[u8]) -> bool {
        self.0[index..].get(..label.len()).is_some_and(|part| part.eq_ignore_ascii_case(label))
    }
}

impl Text for ReversedLowercase<'_> {
    fn len(self) -> usize {
        self.0.len()
    }

    fn at(self, index: usize) -> u8 {
        self.0[self.0.len() - 1 - index].to_ascii_lowercase()
    }

    fn has(self, index: usize, label: &[u8]) -> bool {
        let rest = &self.0[..self.0.len() - index];
        rest.len() >= label.len() && rest.iter().rev().zip(label).all(|(a, b)| a.eq_ignore_ascii_case(b))
    }
}

impl<V: Copy> Trie<V> {
    /// Builds the tree of `entries`.
    pub(super) fn new(mut entries: Vec<(Box<[u8]>, V)>) -> Self {
        entries.sort_by(|a, b| a.0.cmp(&b.0));
        let (keys, values): (Vec<_>, Vec<_>) = entries.into_iter().unzip();
        let (nodes, first_bytes) = (vec![Node::default()], vec![0]);
        let mut trie = Self { nodes, first_bytes, labels: Vec::new(), values: Vec::new() };
        let mut pending = vec![Pending { node: 0, keys: 0..keys.len(), depth: 0 }];
        // Iterative, so that long keys cannot overflow the call stack.
        while let Some(next) = pending.pop() {
            trie.fill(&keys, &values, &next, &mut pending);
        }
        trie.first_bytes.extend([0; LANES]);
        trie
    }

    /// Whether the tree has no keys.
    pub(super) fn is_empty(&self) -> bool {
        matches!(&self.nodes[..], [Node { values: Values::None, .. }])
    }

    /// Calls `visit(length, values)` for each key that is a prefix of `text`, shortest first.
    pub(super) fn walk<T: Text>(&self, text: T, mut visit: impl FnMut(usize, &[V])) {
        let (mut index, mut depth) = (0, 0);
        loop {
            let node = &self.nodes[index];
            if !node.matches(text, depth, &self.labels) {
                return;
            }
            depth += node.label_length as usize;
            match &node.values {
                Values::None => {}
                Values::One(value) => visit(depth, slice::from_ref(value)),
                Values::Several(position) => visit(depth, &self.values[*position as usize]),
            }
            if depth == text.len() {
                return;
            }
            let Some(child) = self.child(&node.children, text.at(depth)) else { return };
            index = child;
            depth += 1;
        }
    }

    /// The child for `byte`.
    fn child(&self, children: &Children, byte: u8) -> Option<usize> {
        let (start, count) = (children.start as usize, usize::from(children.count));
        let first_bytes = &self.first_bytes[start..];
        let position = match first_bytes.first_chunk() {
            Some(lanes) if count <= LANES => position(*lanes, byte),
            _ => first_bytes[..count].binary_search(&byte).ok()?,
        };
        (position < count).then_some(start + position)
    }

    /// Fills the node of `pending` and adds its children to `more`. `keys` are sorted.
    fn fill(&mut self, keys: &[Box<[u8]>], values: &[V], pending: &Pending, more: &mut Vec<Pending>) {
        let Range { start, end } = pending.keys;
        // The common prefix of sorted keys is that of the first and the last.
        let depth = match keys[start..end] {
            [ref first, .., ref last] => common_prefix(first, last),
            [ref only] => only.len(),
            [] => 0,
        };
        let values_end = start + keys[start..end].iter().take_while(|key| key.len() == depth).count();
        let children_start = self.nodes.len();
        let mut rest = values_end;
        let mut children = Children { start: index(children_start), count: 0 };
        while rest < end {
            let byte = keys[rest][depth];
            let group_end = rest + keys[rest..end].partition_point(|key| key[depth] == byte);
            more.push(Pending { node: self.nodes.len(), keys: rest..group_end, depth: depth + 1 });
            self.nodes.push(Node::default());
            self.first_bytes.push(byte);
            children.count += 1;
            rest = group_end;
        }
        let label = keys.get(start).map_or(&[][..], |key| &key[pending.depth..depth]);
        self.nodes[pending.node] = self.node(label, children, &values[start..values_end]);
    }

    fn node(&mut self, label: &[u8], children: Children, values: &[V]) -> Node<V> {
        let (inline, rest) = label.split_at(label.len().min(INLINE_LABEL));
        let label_rest = index(self.labels.len());
        self.labels.extend_from_slice(rest);
        let values = match *values {
            [] => Values::None,
            [one] => Values::One(one),
            [..] => {
                self.values.push(values.into());
                Values::Several(index(self.values.len() - 1))
            }
        };
        let mut node = Node { label_length: index(label.len()), label_rest, children, values, ..Node::default() };
        node.label[..inline.len()].copy_from_slice(inline);
        node
    }
}

/// The first position of `byte`, or at least [`LANES`] if there is none. Unlike a search, this has no branches.
fn position(bytes: [u8; LANES], byte: u8) -> usize {
    const LOW_BITS: u128 = u128::from_ne_bytes([0x7f; LANES]);
    // A byte of the difference is 0 if it equals `byte`; only then adding the low bits does not set its high bit.
    let difference = u128::from_le_bytes(bytes) ^ u128::from_ne_bytes([byte; LANES]);
    let found = !(((difference & LOW_BITS) + LOW_BITS) | difference | LOW_BITS);
    found.trailing_zeros() as usize / 8
}

/// A node that is not filled yet. Its keys share `depth` bytes, which its ancestors and its first byte cover.
struct Pending {
    node: usize,
    keys: Range<usize>,
    depth: usize,
}

fn common_prefix(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// Positions are stored in 32 bits. A message from a control plane cannot contain 4 GiB of paths.
fn index(position: usize) -> u32 {
    u32::try_from(position).expect("a route table holds less than 4 GiB of keys")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found<T: Text>(keys: &[&str], text: T) -> Vec<(usize, Vec<usize>)> {
        let entries = keys.iter().enumerate().map(|(value, key)| (key.as_bytes().into(), value)).collect();
        let mut found = Vec::new();
        Trie::new(entries).walk(text, |length, values| found.push((length, values.to_vec())));
        found
    }

    #[test]
    fn every_key_that_begins_the_text_is_visited_shortest_first() {
        let keys = ["/a", "/", "/ab/c", "/b", "/a", "", "/ab/cd/e"];
        assert_eq!(found(&keys, Plain(b"/ab/cd")), [(0, vec![5]), (1, vec![1]), (2, vec![0, 4]), (5, vec![2])]);
        assert_eq!(found(&keys, Plain(b"")), [(0, vec![5])]);
        assert_eq!(found(&keys, Plain(b"x")), [(0, vec![5])]);
        assert_eq!(found(&[], Plain(b"x")), []);
    }

    #[test]
    fn texts_are_lowercased_and_reversed() {
        assert_eq!(found(&["/ab", "/ac"], Lowercase(b"/aBc")), [(3, vec![0])]);
        assert_eq!(found(&["moc.", "moc.b"], ReversedLowercase(b"a.B.Com")), [(4, vec![0]), (5, vec![1])]);
        assert_eq!(found(&["moc.longer"], ReversedLowercase(b"r.com")), []);
        assert_eq!(found(&["/a/longer/path"], Lowercase(b"/A/Longer/Path/x")), [(14, vec![0])]);
        assert_eq!(found(&["/a/longer/path"], Lowercase(b"/a/longer/pith")), []);
    }

    #[test]
    fn a_node_may_have_a_child_for_every_byte() {
        for siblings in [1, 2, 16, 17, 256] {
            let keys = (0..siblings).map(|byte| (Box::from([7, u8::try_from(byte).unwrap(), 9]), byte));
            let trie = Trie::new(keys.collect());
            for byte in 0..=255 {
                let mut found = None;
                trie.walk(Plain(&[7, byte, 9]), |_, values| found = Some(values[0]));
                assert_eq!(found, Some(usize::from(byte)).filter(|byte| *byte < siblings), "{byte} of {siblings}");
            }
        }
    }

    #[test]
    fn random_keys_agree_with_a_scan() {
        let mut rng = fastrand::Rng::with_seed(7);
        let mut word = |longest: usize| -> String {
            (0..rng.usize(..=longest)).map(|_| rng.choice(['a', 'b', '/']).unwrap()).collect()
        };
        for round in 0..200 {
            let keys: Vec<String> = (0..round).map(|_| word(8)).collect();
            let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
            let text = word(12);
            let mut expected: Vec<usize> = (0..keys.len()).filter(|&key| text.starts_with(keys[key])).collect();
            expected.sort_by_key(|&key| keys[key].len());
            let actual: Vec<usize> =
                found(&keys, Plain(text.as_bytes())).into_iter().flat_map(|(_, values)| values).collect();
            assert_eq!(actual, expected, "{keys:?} on {text:?}");
        }
    }
}
