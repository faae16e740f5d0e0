//! The requests of a run, made before it starts.

use super::{dialect::Dialect, figures::Random};
use embral::{Error, ErrorKind, Result};
use hyper::{Method, body::Bytes};
use serde_json::{Value, json};
use std::{
    cell::{Cell, RefCell},
    fmt,
    ops::Range,
    str::FromStr,
};

/// A kind of request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The vector of one text.
    Single,
    /// The vectors of several texts.
    Batch,
    /// The scores of eight documents.
    Rerank,
    /// The tokens of one text.
    Tokenize,
    /// What a server must refuse with a status of 400 to 499: broken JSON, wrong types, routes that are not there.
    Bad,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 5] = [Self::Single, Self::Batch, Self::Rerank, Self::Tokenize, Self::Bad];

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Single => "single",
            Self::Batch => "batch",
            Self::Rerank => "rerank",
            Self::Tokenize => "tokenize",
            Self::Bad => "bad",
        }
    }

    /// The place among [`Kind::ALL`].
    pub(super) fn index(self) -> usize {
        self as usize
    }
}

/// How often each kind of request comes, in the order of [`Kind::ALL`]: any weights, one above 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mix(pub [u32; 5]);

impl Mix {
    /// Requests of one kind.
    pub fn only(kind: Kind) -> Self {
        let mut weights = [0; 5];
        weights[kind.index()] = 1;
        Self(weights)
    }
}

impl FromStr for Mix {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut weights = [0; 5];
        for part in text.split(',') {
            let found = part.split_once('=').and_then(|(name, weight)| {
                let kind = Kind::ALL.into_iter().find(|kind| kind.name() == name.trim())?;
                Some((kind, weight.trim().parse::<u16>().ok()?))
            });
            let Some((kind, weight)) = found else {
                let names = Kind::ALL.map(Kind::name).join(", ");
                return Err(Error::new(
                    ErrorKind::InvalidInput,
                    format!(
                        "{part:?} is no part of a mix: expected KIND=WEIGHT, KIND one of {names}, WEIGHT a whole number"
                    ),
                ));
            };
            weights[kind.index()] = u32::from(weight);
        }
        if weights == [0; 5] {
            return Err(Error::new(ErrorKind::InvalidInput, "a mix of nothing: expected a weight above 0"));
        }
        Ok(Self(weights))
    }
}

impl fmt::Display for Mix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = Kind::ALL.iter().zip(self.0).filter(|(_, weight)| *weight > 0);
        let parts: Vec<String> = parts.map(|(kind, weight)| format!("{}={weight}", kind.name())).collect();
        f.write_str(&parts.join(","))
    }
}

/// One request, and what is known of its answer.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) kind: Kind,
    pub(super) method: Method,
    pub(super) path: &'static str,
    pub(super) body: Bytes,
    /// Texts whose vectors are asked for; 0 where that is not what is asked.
    pub(super) texts: usize,
    /// The rows that the answer is compared with: row `i` of it with reference `slots[i]`.
    pub(super) slots: Vec<usize>,
    /// How long a row must be, where the request says so.
    pub(super) width: Option<usize>,
    /// The bytes of the first answer that was right; 0 before it.
    pub(super) length: Cell<usize>,
    /// The tokens that it spoke of.
    pub(super) tokens: Cell<u64>,
    /// How often it was asked.
    pub(super) asked: Cell<u64>,
}

/// Documents of one rerank request.
const DOCUMENTS: usize = 8;
/// Different rerank requests, and different tokenize requests, at most.
const FEW: usize = 64;

/// What the requests are made of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Make<'a> {
    pub(super) dialect: Dialect,
    pub(super) texts: &'a [String],
    /// Texts of a batch.
    pub(super) batch: usize,
    pub(super) model: Option<&'a str>,
    pub(super) rerank_model: Option<&'a str>,
}

/// The requests by kind, and the order in which they come.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) items: Vec<Item>,
    /// How many references the items speak of.
    pub(super) slots: usize,
    kinds: Vec<(u32, Range<usize>, Cell<usize>)>,
    random: RefCell<Random>,
}

impl Plan {
    pub(super) fn new(make: &Make<'_>, mix: Mix, seed: u64) -> Result<Self> {
        let mut plan = Self {
            items: Vec::new(),
            slots: make.texts.len(),
            kinds: Vec::new(),
            random: RefCell::new(Random::new(seed)),
        };
        for (kind, weight) in Kind::ALL.into_iter().zip(mix.0).filter(|(_, weight)| *weight > 0) {
            let from = plan.items.len();
            match kind {
                Kind::Single => (0..make.texts.len()).for_each(|i| plan.embed(make, kind, vec![i])),
                // Batches go around the texts, so that every text is in one and every batch is full.
                Kind::Batch => {
                    let n = make.texts.len();
                    for from in (0..n).step_by(make.batch) {
                        plan.embed(make, kind, (from..from + make.batch).map(|i| i % n).collect());
                    }
                }
                Kind::Rerank => plan.rerank(make)?,
                Kind::Tokenize => plan.tokenize(make)?,
                Kind::Bad => plan.bad(make),
            }
            plan.kinds.push((weight, from..plan.items.len(), Cell::new(0)));
        }
        Ok(plan)
    }

    /// The next request: its kind by chance, the requests of a kind in turn.
    pub(super) fn next(&self) -> &Item {
        let total = self.kinds.iter().map(|(weight, _, _)| *weight).sum::<u32>();
        let mut draw = self.random.borrow_mut().below(total as usize) as u32;
        for (weight, range, turn) in &self.kinds {
            if draw < *weight {
                let at = turn.get();
                turn.set((at + 1) % range.len());
                return &self.items[range.start + at];
            }
            draw -= weight;
        }
        unreachable!("a number below the sum of the weights falls to one of them")
    }

    /// The first request of each kind that must be answered.
    pub(super) fn probes(&self) -> impl Iterator<Item = &Item> {
        self.kinds.iter().map(|(_, range, _)| &self.items[range.start]).filter(|item| item.kind != Kind::Bad)
    }

    fn push(&mut self, kind: Kind, path: &'static str, body: Bytes, slots: Vec<usize>) -> &mut Item {
        let texts = if matches!(kind, Kind::Single | Kind::Batch) { slots.len() } else { 0 };
        self.items.push(Item {
            kind,
            method: Method::POST,
            path,
            body,
            texts,
            slots,
            width: None,
            length: Cell::new(0),
            tokens: Cell::new(0),
            asked: Cell::new(0),
        });
        self.items.last_mut().expect("one was put there")
    }

    fn embed(&mut self, make: &Make<'_>, kind: Kind, slots: Vec<usize>) {
        let texts: Vec<&str> = slots.iter().map(|slot| make.texts[*slot].as_str()).collect();
        let (path, body) = make.dialect.embed(&texts);
        self.push(kind, path, with_model(body, make.model), slots);
    }

    fn rerank(&mut self, make: &Make<'_>) -> Result<()> {
        let n = make.texts.len();
        for i in 0..n.min(FEW) {
            let documents: Vec<&str> = (1..=DOCUMENTS).map(|d| make.texts[(i + d) % n].as_str()).collect();
            let (path, body) =
                make.dialect.rerank(&make.texts[i], &documents).ok_or_else(|| lacks(make.dialect, "rerank"))?;
            let slot = self.new_slot();
            let body = with_model(body, make.rerank_model.or(make.model));
            self.push(Kind::Rerank, path, body, vec![slot]).width = Some(DOCUMENTS);
        }
        Ok(())
    }

    fn tokenize(&mut self, make: &Make<'_>) -> Result<()> {
        for text in make.texts.iter().take(FEW) {
            let (path, body) = make.dialect.tokenize(text).ok_or_else(|| lacks(make.dialect, "tokenize"))?;
            let slot = self.new_slot();
            self.push(Kind::Tokenize, path, with_model(body, make.model), vec![slot]);
        }
        Ok(())
    }

    fn bad(&mut self, make: &Make<'_>) {
        let (path, _) = make.dialect.embed(&["a"]);
        let whole = with_model(make.dialect.embed(&["a"]).1, make.model);
        self.push(Kind::Bad, path, whole.slice(..whole.len() - 1), Vec::new());
        self.push(Kind::Bad, path, Bytes::from_static(b"\xff\xfe not JSON"), Vec::new());
        self.push(Kind::Bad, path, Bytes::new(), Vec::new());
        let wrong = json!({ "input": { "a": 1 }, "inputs": { "a": 1 }, "texts": { "a": 1 } });
        self.push(Kind::Bad, path, with_model(wrong, make.model), Vec::new());
        self.push(Kind::Bad, "/no/such/route", whole, Vec::new());
        self.push(Kind::Bad, path, Bytes::new(), Vec::new()).method = Method::GET;
    }

    fn new_slot(&mut self) -> usize {
        self.slots += 1;
        self.slots - 1
    }
}

fn with_model(mut body: Value, model: Option<&str>) -> Bytes {
    if let Some(model) = model {
        body["model"] = json!(model);
    }
    Bytes::from(body.to_string())
}

fn lacks(dialect: Dialect, what: &str) -> Error {
    Error::new(ErrorKind::InvalidInput, format!("the dialect {dialect} has no request to {what}"))
        .hint("leave it out of the mix, or take the dialect embral or tei")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn make(texts: &[String]) -> Make<'_> {
        Make { dialect: Dialect::Tei, texts, batch: 4, model: Some("m"), rerank_model: Some("r") }
    }

    #[test]
    fn a_mix_comes_in_its_proportions_and_every_request_in_turn() {
        let texts: Vec<String> = (0..10).map(|i| format!("text {i}")).collect();
        let mix: Mix = "single=6, batch=2,rerank=1,tokenize=0,bad=1".parse().unwrap();
        assert_eq!(mix.to_string(), "single=6,batch=2,rerank=1,bad=1");
        let plan = Plan::new(&make(&texts), mix, 5).unwrap();
        let mut counts = [0; 5];
        for _ in 0..10_000 {
            let item = plan.next();
            item.asked.set(item.asked.get() + 1);
            counts[item.kind.index()] += 1;
        }
        for (count, share) in counts.iter().zip([6000, 2000, 1000, 0, 1000]) {
            assert!((share - 200..=share + 200).contains(count), "{counts:?}");
        }
        for kind in [Kind::Single, Kind::Batch, Kind::Rerank, Kind::Bad] {
            let asked = || plan.items.iter().filter(|item| item.kind == kind).map(|item| item.asked.get());
            assert!(asked().max().unwrap() - asked().min().unwrap() <= 1, "{kind:?}");
        }
        assert_eq!(plan.probes().map(|item| item.kind).collect::<Vec<_>>(), [Kind::Single, Kind::Batch, Kind::Rerank]);
        let rerank = plan.items.iter().find(|item| item.kind == Kind::Rerank).unwrap();
        let body: Value = serde_json::from_slice(&rerank.body).unwrap();
        assert_eq!((body["model"].as_str(), body["texts"].as_array().unwrap().len()), (Some("r"), DOCUMENTS));
    }

    #[test]
    fn batches_are_full_and_hold_every_text() {
        let texts: Vec<String> = (0..10).map(|i| format!("text {i}")).collect();
        let plan = Plan::new(&make(&texts), Mix::only(Kind::Batch), 5).unwrap();
        let slots: Vec<&[usize]> = plan.items.iter().map(|item| item.slots.as_slice()).collect();
        assert_eq!(slots, [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 0, 1]]);
        let few = Plan::new(&make(&texts[..1]), Mix::only(Kind::Batch), 5).unwrap();
        assert_eq!(few.items[0].slots, [0, 0, 0, 0]);
    }

    #[test]
    fn bad_requests_are_bad() {
        let texts = ["a".to_owned()];
        let plan = Plan::new(&make(&texts), Mix::only(Kind::Bad), 5).unwrap();
        assert_eq!((plan.items.len(), plan.probes().count()), (6, 0));
        for item in plan.items.iter().filter(|item| item.path == "/embed" && item.method == Method::POST) {
            let body: Option<Value> = serde_json::from_slice(&item.body).ok();
            assert!(body.is_none_or(|body| body["inputs"].is_object()), "{:?}", item.body);
        }
    }

    #[test]
    fn a_mix_that_is_none_is_an_error() {
        for text in ["", "single", "single=x", "single=-1", "pair=1", "single=0,batch=0"] {
            assert!(text.parse::<Mix>().is_err(), "{text}");
        }
        let texts = ["a".to_owned()];
        let ollama = Make { dialect: Dialect::Ollama, ..make(&texts) };
        for kind in [Kind::Rerank, Kind::Tokenize] {
            let error = Plan::new(&ollama, Mix::only(kind), 5).unwrap_err().to_string();
            assert!(error.contains("ollama has no request to"), "{error}");
        }
    }
}
