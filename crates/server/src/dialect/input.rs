//! Texts and token ids, in the forms in which all APIs take them.

use crate::pipeline::Item;
use serde::{
    Deserialize, Deserializer,
    de::{Error, SeqAccess, Visitor},
};
use std::fmt;

/// One text or many: `"a"`, `["a", "b"]`, `[1, 2]` (the ids of one text), `[[1, 2], [3]]`, and lists that mix texts and ids of texts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Inputs {
    pub(crate) items: Vec<Item>,
    /// Whether it was one, and no list.
    pub(crate) single: bool,
}

/// What stands in a list.
enum Element {
    Item(Item),
    Id(u32),
}

struct InputsVisitor;
struct ElementVisitor;

const EXPECTED: &str = "a text, a list of texts, token ids, or a list of token ids";

impl<'de> Deserialize<'de> for Inputs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(InputsVisitor)
    }
}

impl<'de> Visitor<'de> for InputsVisitor {
    type Value = Inputs;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(EXPECTED)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Inputs, E> {
        self.visit_string(text.to_owned())
    }

    fn visit_string<E: Error>(self, text: String) -> Result<Inputs, E> {
        Ok(Inputs { items: vec![Item::Text(text)], single: true })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Inputs, A::Error> {
        let mut items = Vec::new();
        let mut ids = Vec::new();
        while let Some(element) = list.next_element()? {
            match element {
                Element::Item(item) if ids.is_empty() => items.push(item),
                Element::Id(id) if items.is_empty() => ids.push(id),
                _ => return Err(A::Error::custom("a list holds texts or ids of texts, or the ids of one text")),
            }
        }
        if ids.is_empty() {
            return Ok(Inputs { items, single: false });
        }
        Ok(Inputs { items: vec![Item::Ids(ids)], single: true })
    }
}

impl<'de> Deserialize<'de> for Element {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ElementVisitor)
    }
}

impl<'de> Visitor<'de> for ElementVisitor {
    type Value = Element;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text, a token id, or a list of token ids")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Element, E> {
        self.visit_string(text.to_owned())
    }

    fn visit_string<E: Error>(self, text: String) -> Result<Element, E> {
        Ok(Element::Item(Item::Text(text)))
    }

    fn visit_u64<E: Error>(self, id: u64) -> Result<Element, E> {
        u32::try_from(id).map(Element::Id).map_err(|_| E::custom(format!("{id} is no token id")))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Element, A::Error> {
        let mut ids = Vec::new();
        while let Some(id) = list.next_element::<u32>()? {
            ids.push(id);
        }
        Ok(Element::Item(Item::Ids(ids)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Inputs, String> {
        serde_json::from_str(json).map_err(|e| e.to_string())
    }

    fn text(text: &str) -> Item {
        Item::Text(text.to_owned())
    }

    #[test]
    fn every_form_is_read() {
        assert_eq!(read("\"a\"").unwrap(), Inputs { items: vec![text("a")], single: true });
        assert_eq!(read("[\"a\", \"\"]").unwrap(), Inputs { items: vec![text("a"), text("")], single: false });
        assert_eq!(read("[1, 2]").unwrap(), Inputs { items: vec![Item::Ids(vec![1, 2])], single: true });
        assert_eq!(read("[[1, 2], \"b\", []]").unwrap().items, [Item::Ids(vec![1, 2]), text("b"), Item::Ids(vec![])]);
        assert_eq!(read("[]").unwrap(), Inputs { items: vec![], single: false });
    }

    #[test]
    fn what_is_none_of_them_is_refused() {
        for bad in [
            "1",
            "null",
            "{}",
            "[1, \"a\"]",
            "[\"a\", 1]",
            "[-1]",
            "[4294967296]",
            "[1.5]",
            "[[\"a\"]]",
            "[null]",
            "[[[1]]]",
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
