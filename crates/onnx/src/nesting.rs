//! How deep the messages of an ONNX file lie in one another, and whether each field lies within its message. Parsers go down by recursion
//! and make room for as many bytes as a field says it has: a file may be nothing but depth, or say absurd lengths.

/// Graphs lie in attributes of nodes of graphs; known models stay below 3 of these, four messages each.
const DEEPEST: usize = 64;

/// The messages of a model, by the fields that lead from one to the next.
#[derive(Clone, Copy)]
enum Message {
    Model,
    Graph,
    Node,
    Attribute,
    Value,
    Type,
    Sequence,
    Tensor,
    TensorType,
    Shape,
    Annotation,
    /// One that holds no other.
    Leaf,
}

impl Message {
    fn field(self, number: u64) -> Option<Self> {
        match (self, number) {
            (Self::Model, 7) | (Self::Attribute, 6 | 11) => Some(Self::Graph),
            (Self::Graph, 1) => Some(Self::Node),
            (Self::Graph, 5) | (Self::Attribute, 5 | 10) => Some(Self::Tensor),
            (Self::Graph, 11..=13) => Some(Self::Value),
            (Self::Graph, 14) => Some(Self::Annotation),
            (Self::Node, 5) => Some(Self::Attribute),
            (Self::Value, 2) | (Self::Sequence, 1) | (Self::Attribute, 14) => Some(Self::Type),
            (Self::Type, 1 | 8) => Some(Self::TensorType),
            (Self::Type, 4 | 9) => Some(Self::Sequence),
            (Self::TensorType, 2) => Some(Self::Shape),
            (Self::Model, 8 | 14)
            | (Self::Graph, 16)
            | (Self::Node, 9)
            | (Self::Value, 4)
            | (Self::Tensor, 3 | 13 | 16)
            | (Self::Annotation, 2)
            | (Self::Shape, 1) => Some(Self::Leaf),
            _ => None,
        }
    }

    /// Whether a field is integers, one after the other: one of more than ten bytes is none, and a parser may read it for ever.
    fn is_packed(self, number: u64) -> bool {
        matches!((self, number), (Self::Tensor, 1 | 5 | 7 | 11) | (Self::Attribute, 8))
    }
}

/// Whether the bytes are the fields of a model that lie no deeper than any parser's stack.
pub(crate) fn is_shallow(bytes: &[u8]) -> bool {
    below(bytes, Message::Model, 0)
}

fn below(mut bytes: &[u8], message: Message, depth: usize) -> bool {
    if depth > DEEPEST {
        return false;
    }
    while !bytes.is_empty() {
        let Some(key) = varint(&mut bytes) else { return false };
        // Protocol buffers have the field numbers 1 to 2^29 - 1; parsers do not agree on what others mean.
        if !(1..1 << 29).contains(&(key >> 3)) {
            return false;
        }
        let length = match key & 7 {
            0 => match varint(&mut bytes) {
                Some(_) => continue,
                None => return false,
            },
            1 => 8,
            2 => match varint(&mut bytes).and_then(|n| usize::try_from(n).ok()) {
                Some(length) => length,
                None => return false,
            },
            5 => 4,
            _ => return false,
        };
        let Some((mut field, rest)) = bytes.split_at_checked(length) else { return false };
        bytes = rest;
        if key & 7 == 2 && message.is_packed(key >> 3) {
            while !field.is_empty() {
                if varint(&mut field).is_none() {
                    return false;
                }
            }
            continue;
        }
        if let Some(inner) = message.field(key >> 3).filter(|_| key & 7 == 2)
            && !below(field, inner, depth + 1)
        {
            return false;
        }
    }
    true
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrapped(field: u64, inner: &[u8]) -> Vec<u8> {
        let mut out = vec![(field << 3 | 2) as u8];
        let mut length = inner.len();
        while length >= 0x80 {
            out.push(length as u8 | 0x80);
            length >>= 7;
        }
        out.push(length as u8);
        out.extend(inner);
        out
    }

    #[test]
    fn depth_is_counted_along_the_fields_that_recur() {
        let nested = |levels: usize| {
            let mut graph = Vec::new();
            for _ in 0..levels {
                graph = wrapped(1, &wrapped(5, &wrapped(6, &graph)));
            }
            wrapped(7, &graph)
        };
        assert!(is_shallow(&nested(3)) && is_shallow(&[]));
        assert!(!is_shallow(&nested(100)));
        assert!(!is_shallow(&nested(3)[1..]) && !is_shallow(&nested(3)[..9]));
        assert!(!is_shallow(&[0x02, 0]) && !is_shallow(&[0x82, 0x80, 0x80, 0x80, 0x10, 0]));
        // A name that says it has more bytes than there are, in the tensor that a graph holds.
        assert!(is_shallow(&wrapped(7, &wrapped(5, &wrapped(13, &[0x0a, 1, b'x'])))));
        assert!(!is_shallow(&wrapped(7, &wrapped(5, &wrapped(13, &[0x0a, 200, 200, 200, 3, b'x'])))));
        // Integers of a tensor, one of which has no end.
        let tensor = |integers: &[u8]| wrapped(7, &wrapped(5, &wrapped(7, integers)));
        assert!(is_shallow(&tensor(&[1, 0x80, 1])) && !is_shallow(&tensor(&[0xff; 12])));
        // What lies in other fields is bytes.
        assert!(is_shallow(&wrapped(7, &wrapped(2, &nested(100)))));
    }
}
