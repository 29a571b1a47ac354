//! MurmurHash2 exactly as Kafka's Java client computes it, so that a key goes to the same
//! partition whichever client sent it. Must never change: a different hash splits the history of
//! a key over two partitions.

const SEED: u32 = 0x9747_b28c;
const M: u32 = 0x5bd1_e995;
const R: u32 = 24;

/// The 32-bit hash of `org.apache.kafka.common.utils.Utils.murmur2`, as a signed number.
#[must_use]
pub fn murmur2(data: &[u8]) -> i32 {
    // The length takes part as a Java int: keys are far shorter than 2 GiB.
    let mut h = SEED ^ (data.len() as u32);
    let (words, tail) = data.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word);
        k = k.wrapping_mul(M);
        k ^= k >> R;
        k = k.wrapping_mul(M);
        h = h.wrapping_mul(M) ^ k;
    }
    if !tail.is_empty() {
        for (i, byte) in tail.iter().enumerate() {
            h ^= u32::from(*byte) << (8 * i);
        }
        h = h.wrapping_mul(M);
    }
    h ^= h >> 13;
    h = h.wrapping_mul(M);
    h ^= h >> 15;
    h as i32
}

/// The partition of a key among `partitions`, as the default partitioner of the Java client has
/// it: the sign bit cleared, modulo the count. With no partitions at all the answer is 0.
#[must_use]
pub fn partition_for_key(key: &[u8], partitions: u32) -> u32 {
    let positive = (murmur2(key) & 0x7fff_ffff) as u32;
    positive.checked_rem(partitions).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_equal_those_of_the_java_client() {
        let vectors: [(&[u8], i32); 6] = [
            (b"21", -973_932_308),
            (b"foobar", -790_332_482),
            (b"a-little-bit-long-string", -985_981_536),
            (b"a-little-bit-longer-string", -1_486_304_829),
            (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            (b"abc", 479_470_107),
        ];
        for (key, hash) in vectors {
            assert_eq!(murmur2(key), hash, "{}", String::from_utf8_lossy(key));
        }
    }

    #[test]
    fn a_negative_hash_still_names_a_partition_in_range() {
        assert_eq!(partition_for_key(b"21", 10), ((-973_932_308_i32) & 0x7fff_ffff) as u32 % 10);
        for partitions in 1..50 {
            for key in 0..100_u32 {
                assert!(partition_for_key(&key.to_le_bytes(), partitions) < partitions);
            }
        }
    }

    #[test]
    fn no_partitions_is_not_a_division_by_zero() {
        assert_eq!(partition_for_key(b"abc", 0), 0);
    }
}
