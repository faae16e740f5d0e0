//! What is kept of the answers: their times, and whether they were right.

use super::{
    client::{Broken, Reply},
    dialect::{Answer, Dialect},
    figures::{Spread, cosine},
    plan::{Item, Kind},
};
use std::collections::BTreeMap;

/// Every so many answers of a request one is read in full, the first one always.
const READ_EVERY: u64 = 64;
/// The vector of a text is the same where the cosine to the first one is no lower. Servers that pad, or that compute in 8 bits, give a text
/// another vector in other company; a mixed-up one is below 0.99.
const SAME: f64 = 1.0 - 1e-4;
/// Of the different things that are wrong, so many are told.
const TOLD: usize = 5;

/// How often each answer with an unexpected status came, and what the first one said.
pub(super) type Unexpected = BTreeMap<u16, (u64, String)>;

/// What must be the same each time, and what was wrong; from the first request on.
#[derive(Debug)]
pub(super) struct Judge {
    dialect: Dialect,
    exact: bool,
    /// The rows that came first.
    references: Vec<Option<Box<[f32]>>>,
    /// Components of a vector, once one was seen.
    width: Option<usize>,
    pub(super) read: u64,
    pub(super) differing: u64,
    pub(super) lowest: f64,
    pub(super) wrong: u64,
    pub(super) wrongs: Vec<String>,
    pub(super) unexpected: Unexpected,
}

impl Judge {
    pub(super) fn new(dialect: Dialect, exact: bool, slots: usize) -> Self {
        Self {
            dialect,
            exact,
            references: vec![None; slots],
            width: None,
            read: 0,
            differing: 0,
            lowest: 1.0,
            wrong: 0,
            wrongs: Vec::new(),
            unexpected: BTreeMap::new(),
        }
    }

    /// Components of a vector, once one was seen.
    pub(super) fn dimensions(&self) -> Option<usize> {
        self.width
    }

    /// Whether the next answer to a request is read in full.
    pub(super) fn reads(item: &Item) -> bool {
        let asked = item.asked.replace(item.asked.get() + 1);
        item.kind != Kind::Bad && (item.length.get() == 0 || asked.is_multiple_of(READ_EVERY))
    }

    /// Whether an answer is what the request must get; what is wrong is kept. `body` holds all of it where it was read in full.
    pub(super) fn accepts(&mut self, item: &Item, reply: Reply, body: &[u8], whole: bool) -> bool {
        let good = match (item.kind, reply.status) {
            (_, 429 | 503) => return false,
            (Kind::Bad, 400..500) => true,
            (Kind::Bad, status) => {
                self.blame(item, &format!("status {status} to a request that must be refused with 400 to 499"));
                false
            }
            (_, 200) if whole => match self.check(item, reply, body) {
                Ok(()) => true,
                Err(what) => {
                    self.blame(item, &what);
                    false
                }
            },
            (_, 200) => {
                let first = item.length.get();
                let plausible = (first / 2..=first * 2).contains(&reply.length);
                if !plausible {
                    self.blame(item, &format!("an answer of {} bytes, where the first had {first}", reply.length));
                }
                plausible
            }
            (_, status) => {
                let (count, _) = self.unexpected.entry(status).or_insert_with(|| (0, excerpt(body)));
                *count += 1;
                false
            }
        };
        if good && whole {
            item.length.set(if item.length.get() == 0 { reply.length } else { item.length.get() });
        }
        good
    }

    fn blame(&mut self, item: &Item, what: &str) {
        self.wrong += 1;
        if self.wrongs.len() < TOLD {
            let wrong = format!("{} {}: {what}", item.method, item.path);
            if !self.wrongs.contains(&wrong) {
                self.wrongs.push(wrong);
            }
        }
    }

    fn check(&mut self, item: &Item, reply: Reply, body: &[u8]) -> Result<(), String> {
        let answer = match item.kind {
            Kind::Rerank => self.dialect.read_scores(body)?,
            Kind::Tokenize => self.dialect.read_tokens(body)?,
            Kind::Single | Kind::Batch | Kind::Bad => self.dialect.read_vectors(body, reply.tokens)?,
        };
        self.read += 1;
        let Answer { rows, tokens } = answer;
        if rows.len() != item.slots.len() {
            return Err(format!("expected {} rows, found {}", item.slots.len(), rows.len()));
        }
        for (row, slot) in rows.into_iter().zip(&item.slots) {
            self.row(item, row, *slot)?;
        }
        item.tokens.set(tokens.unwrap_or(0));
        Ok(())
    }

    fn row(&mut self, item: &Item, row: Vec<f32>, slot: usize) -> Result<(), String> {
        if let Some(place) = row.iter().position(|x| !x.is_finite()) {
            return Err(format!("number {place} of row {slot} is {}", row[place]));
        }
        let vector = item.texts > 0;
        if vector && row.iter().all(|x| *x == 0.0) {
            return Err(format!("the vector of text {slot} is 0 or empty"));
        }
        let expected = if vector { *self.width.get_or_insert(row.len()) } else { item.width.unwrap_or(row.len()) };
        if row.len() != expected {
            return Err(format!("expected {expected} numbers in row {slot}, found {}", row.len()));
        }
        let Some(first) = &self.references[slot] else {
            self.references[slot] = Some(row.into_boxed_slice());
            return Ok(());
        };
        let same_bits = first.len() == row.len() && first.iter().zip(&row).all(|(a, b)| a.to_bits() == b.to_bits());
        if same_bits {
            return Ok(());
        }
        self.differing += 1;
        if item.kind == Kind::Tokenize {
            return Err(format!("other tokens of text {slot} than the first time"));
        }
        let cosine = cosine(first, &row);
        self.lowest = self.lowest.min(cosine);
        match () {
            () if self.exact => Err(format!("row {slot} differs in bits from the first one, cosine {cosine:.7}")),
            () if cosine >= SAME => Ok(()),
            () => Err(format!("row {slot} is another than the first one, cosine {cosine:.6}")),
        }
    }
}

/// The beginning of an answer, in one line.
pub(super) fn excerpt(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(&body[..body.len().min(400)]);
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ").chars().filter(|c| !c.is_control()).take(200).collect()
}

/// The times and counts of one kind of request.
#[derive(Clone, Debug, Default)]
pub(super) struct Counts {
    pub(super) asked: u64,
    pub(super) good: u64,
    pub(super) micros: Vec<u32>,
}

/// What happened while it was measured.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) kinds: [Counts; 5],
    pub(super) texts: u64,
    pub(super) tokens: u64,
    pub(super) statuses: BTreeMap<u16, u64>,
    pub(super) broken: BTreeMap<Broken, u64>,
    /// How long after its time a request of the open loop was sent.
    pub(super) late: Vec<u32>,
    pub(super) unsent: u64,
    pub(super) ended: u64,
}

impl Tally {
    /// An answer that came, in microseconds from the intended start.
    pub(super) fn answered(&mut self, item: &Item, status: u16, good: bool, micros: u32) {
        *self.statuses.entry(status).or_default() += 1;
        let counts = &mut self.kinds[item.kind.index()];
        counts.asked += 1;
        if good {
            counts.good += 1;
            counts.micros.push(micros);
            self.texts += item.texts as u64;
            self.tokens += if item.texts > 0 { item.tokens.get() } else { 0 };
        }
        self.ended += 1;
    }

    /// A request without an answer.
    pub(super) fn broke(&mut self, item: &Item, how: Broken) {
        *self.broken.entry(how).or_default() += 1;
        self.kinds[item.kind.index()].asked += 1;
        self.ended += 1;
    }

    /// The times of all kinds together.
    pub(super) fn all(&self) -> Spread {
        Spread::of(self.kinds.iter().flat_map(|counts| counts.micros.iter().copied()).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::plan::{Make, Mix, Plan};
    use serde_json::json;

    fn plan(mix: &str) -> Plan {
        let texts: Vec<String> = ["a", "b", "c"].map(str::to_owned).to_vec();
        let make = Make { dialect: Dialect::Tei, texts: &texts, batch: 2, model: None, rerank_model: None };
        Plan::new(&make, mix.parse::<Mix>().unwrap(), 1).unwrap()
    }

    fn judge(plan: &Plan, exact: bool) -> Judge {
        Judge::new(Dialect::Tei, exact, plan.slots)
    }

    fn accepts(judge: &mut Judge, item: &Item, status: u16, body: &str, whole: bool) -> bool {
        let reply = Reply { status, length: body.len(), tokens: Some(4) };
        judge.accepts(item, reply, body.as_bytes(), whole)
    }

    #[test]
    fn wrong_answers_are_found() {
        let plan = plan("batch=1");
        let (item, mut judge) = (&plan.items[0], judge(&plan, false));
        assert!(accepts(&mut judge, item, 200, "[[1.0,0.0],[0.0,1.0]]", true));
        assert_eq!((item.tokens.get(), item.length.get(), judge.dimensions()), (4, 21, Some(2)));
        for (body, what) in [
            ("[[1.0,0.0]]", "expected 2 rows, found 1"),
            ("[[1.0,0.0],[0.0,1.0,0.0]]", "expected 2 numbers in row 1, found 3"),
            ("[[1.0,0.0],[0.0,0.0]]", "the vector of text 1 is 0"),
            ("[[1.0,0.0],[0.0,1e40]]", "number 1 of row 1 is inf"),
            ("[[1.0,0.0],[1.0,0.0]]", "row 1 is another than the first one, cosine 0.000000"),
            ("[[1.0,null],[0.0,1.0]]", "form of the dialect"),
        ] {
            judge.wrongs.clear();
            assert!(!accepts(&mut judge, item, 200, body, true), "{body}");
            assert!(
                judge.wrongs[0].starts_with("POST /embed: ") && judge.wrongs[0].contains(what),
                "{:?}",
                judge.wrongs
            );
        }
        assert!(!accepts(&mut judge, item, 200, "[[1.0,null],[0.0,1.0]]", true));
        assert_eq!((judge.wrong, judge.wrongs.len()), (7, 1));
    }

    #[test]
    fn a_vector_that_differs_in_bits_is_wrong_only_where_that_is_asked() {
        let plan = plan("single=1");
        for (exact, good) in [(false, true), (true, false)] {
            let mut judge = judge(&plan, exact);
            assert!(accepts(&mut judge, &plan.items[0], 200, "[[1.0,0.0]]", true));
            assert!(accepts(&mut judge, &plan.items[0], 200, "[[1.0,0.0]]", true));
            assert_eq!(judge.differing, 0);
            assert_eq!(accepts(&mut judge, &plan.items[0], 200, "[[1.0,0.001]]", true), good);
            assert_eq!((judge.differing, judge.wrong, judge.read), (1, u64::from(exact), 3));
            assert!(judge.lowest < 1.0 && judge.lowest > SAME);
        }
    }

    #[test]
    fn answers_that_are_not_read_must_have_a_plausible_length() {
        let plan = plan("single=1");
        let (item, mut judge) = (&plan.items[0], judge(&plan, false));
        assert!(Judge::reads(item) && accepts(&mut judge, item, 200, "[[1.0,0.0]]", true));
        assert!(!Judge::reads(item) && accepts(&mut judge, item, 200, "............", false));
        assert!(!accepts(&mut judge, item, 200, "", false) && !accepts(&mut judge, item, 200, &"x".repeat(30), false));
        assert_eq!((judge.wrong, judge.read), (2, 1));
        let read = (2..200).filter(|_| Judge::reads(item)).count();
        assert_eq!(read, 3);
    }

    #[test]
    fn refusals_are_no_wrong_answers_and_other_statuses_are_kept() {
        let plan = plan("single=1,bad=1");
        let mut judge = judge(&plan, false);
        let item = &plan.items[0];
        for status in [429, 503] {
            assert!(!accepts(&mut judge, item, status, "busy", true));
        }
        assert!(judge.unexpected.is_empty());
        assert!(!accepts(&mut judge, item, 500, "on\nfire", true) && !accepts(&mut judge, item, 500, "again", true));
        assert_eq!(judge.unexpected[&500], (2, "on fire".to_owned()));
        let bad = plan.items.iter().find(|item| item.kind == Kind::Bad).unwrap();
        assert!(accepts(&mut judge, bad, 422, "", false) && judge.wrong == 0);
        assert!(!accepts(&mut judge, bad, 200, "[]", false) && !accepts(&mut judge, bad, 500, "", false));
        assert_eq!(judge.wrong, 2);
    }

    #[test]
    fn scores_and_tokens_are_compared_too() {
        let plan = plan("rerank=1,tokenize=1");
        let mut judge = judge(&plan, false);
        let scores = |n: usize| {
            json!((0..n).map(|i| json!({ "index": i, "score": 0.5 + i as f32 })).collect::<Vec<_>>()).to_string()
        };
        let rerank = &plan.items[0];
        assert!(
            accepts(&mut judge, rerank, 200, &scores(8), true) && !accepts(&mut judge, rerank, 200, &scores(7), true)
        );
        let tokenize = plan.items.iter().find(|item| item.kind == Kind::Tokenize).unwrap();
        assert!(accepts(&mut judge, tokenize, 200, "[[{\"id\":1},{\"id\":2}]]", true));
        assert!(!accepts(&mut judge, tokenize, 200, "[[{\"id\":1},{\"id\":3}]]", true));
        assert_eq!(judge.wrong, 2);
    }

    #[test]
    fn only_good_answers_have_their_time_counted() {
        let plan = plan("single=1");
        let mut tally = Tally::default();
        plan.items[0].tokens.set(7);
        tally.answered(&plan.items[0], 200, true, 10);
        tally.answered(&plan.items[0], 503, false, 1);
        tally.broke(&plan.items[0], Broken::Timeout);
        assert_eq!((tally.all().count, tally.all().max, tally.texts, tally.tokens), (1, 10, 1, 7));
        assert_eq!((tally.kinds[0].asked, tally.kinds[0].good, tally.ended), (3, 1, 3));
        assert_eq!((tally.statuses[&503], tally.broken[&Broken::Timeout]), (1, 1));
    }
}
