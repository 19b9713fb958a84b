//! Where maps keep their elements, for the translator, which finds them without a call.
//!
//! Invariant: what is said here stays true as long as the map lives.

/// Where the values of an array lie: `addr + worker * worker_stride + index * stride` for `index < count`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArrayLayout {
    /// Guest address of the first value (of worker 0).
    pub addr: u32,
    /// Bytes from one value to the next.
    pub stride: u32,
    /// Values.
    pub count: u32,
    /// Bytes from one worker's values to the next's; 0 where workers share them.
    pub worker_stride: u32,
    /// Host address of a byte that is not zero once no element may change; `None` where an update is more than a copy.
    pub frozen: Option<u64>,
}

/// How a hash finds an element. The steps are those of [`super::hash_table`], with the same words:
///
/// 1. The key in words of eight bytes, the last one filled up with zeros, is hashed with the seed (`Seed::hash`).
/// 2. The bucket's word at `buckets + 8 * (hash & bucket_mask)` holds in its low half a link: 0 ends the chain, any other is a
///    place plus one.
/// 3. The node of a link is at `nodes + link * node_len`: a word with the hash above the next link, then the words of the key.
/// 4. What was found or not found counts if `count_mask` of the bucket's word has not changed since.
/// 5. The value of a link is at guest address `addr + worker * worker_stride + link * stride`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HashLayout {
    /// Bytes of a key.
    pub key_len: u32,
    /// The secret of the hash function.
    pub seed: [u64; 4],
    /// Host address of the buckets.
    pub buckets: u64,
    /// Buckets less one.
    pub bucket_mask: u32,
    /// Bits of a bucket's word that change when an element is unlinked.
    pub count_mask: u64,
    /// Host address of where the node of link 0 would be.
    pub nodes: u64,
    /// Bytes of a node.
    pub node_len: u32,
    /// Host address of where the mark of link 0 would be, a byte for each place, where the map marks what programs use.
    pub marks: Option<u64>,
    /// The bit of a mark that says so; who finds it missing calls the helper.
    pub used: u8,
    /// Guest address of where the value of link 0 would be (of worker 0).
    pub addr: u32,
    /// Bytes from one value to the next.
    pub stride: u32,
    /// Bytes from one worker's values to the next's; 0 where workers share them.
    pub worker_stride: u32,
}
