//! Retrieval in a BEIR folder: nDCG of the judged documents among the nearest.

use super::{Embed, field, read};
use embral_kernels::{Pool, op::similarity::dot_matrix};
use embral_types::{Embeddings, Error, ErrorKind, Result};
use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
};

/// Queries ranked at a time: with 100,000 documents their scores take 25 MB.
const QUERIES: usize = 64;

/// A retrieval set: `corpus.jsonl`, `queries.jsonl` and one file of `qrels`.
#[derive(Clone, Debug)]
pub struct Retrieval {
    /// The folder's name and the split, as `scifact test`.
    pub name: String,
    documents: Vec<String>,
    queries: Vec<String>,
    /// For each query the documents judged above 0, and how relevant they are.
    judged: Vec<Vec<(usize, f64)>>,
}

impl Retrieval {
    /// Reads the queries that `qrels/<split>.tsv` judges, and every document (title, a space, text).
    ///
    /// # Errors
    /// Where a file is missing, a line is not of its form, or a judgement names an unknown query or document.
    pub fn read(folder: &Path, split: &str) -> Result<Self> {
        let lines = |name: &str| -> Result<(PathBuf, String)> {
            let path = folder.join(name);
            let text = read(&path)?;
            Ok((path, text))
        };
        let (corpus_path, corpus) = lines("corpus.jsonl")?;
        let (mut documents, mut document_of) = (Vec::new(), HashMap::new());
        for (number, line) in corpus.lines().enumerate() {
            let row = json(line, &corpus_path, number)?;
            let title = row["title"].as_str().unwrap_or("");
            document_of.insert(text_of(&row, "_id", &corpus_path, number)?.to_owned(), documents.len());
            documents.push(format!("{title} {}", text_of(&row, "text", &corpus_path, number)?).trim().to_owned());
        }
        let (query_path, text) = lines("queries.jsonl")?;
        let mut query_of = HashMap::new();
        for (number, line) in text.lines().enumerate() {
            let row = json(line, &query_path, number)?;
            let id = text_of(&row, "_id", &query_path, number)?.to_owned();
            query_of.insert(id, text_of(&row, "text", &query_path, number)?.to_owned());
        }
        let (qrels_path, qrels) = lines(&format!("qrels/{split}.tsv"))?;
        let mut judged: BTreeMap<&str, Vec<(usize, f64)>> = BTreeMap::new();
        for (number, line) in qrels.lines().enumerate().skip(1) {
            let columns: Vec<&str> = line.split('\t').collect();
            let relevance = field(&columns, 2, &qrels_path, number)?;
            let relevance: f64 = relevance.parse().map_err(|_| wrong(&qrels_path, number, "a number", relevance))?;
            let document = field(&columns, 1, &qrels_path, number)?;
            let &document = document_of
                .get(document)
                .ok_or_else(|| wrong(&qrels_path, number, "the _id of a document", document))?;
            if relevance > 0.0 {
                judged.entry(field(&columns, 0, &qrels_path, number)?).or_default().push((document, relevance));
            }
        }
        let mut queries = Vec::new();
        for id in judged.keys() {
            let query = query_of.get(*id).ok_or_else(|| wrong(&qrels_path, 0, "the _id of a query", id))?;
            queries.push(query.clone());
        }
        let name =
            folder.file_name().map_or_else(|| folder.display().to_string(), |n| n.to_string_lossy().into_owned());
        Ok(Self { name: format!("{name} {split}"), documents, queries, judged: judged.into_values().collect() })
    }

    /// The mean nDCG at 10 over the queries.
    ///
    /// # Errors
    /// What `embed` fails with.
    pub fn ndcg_at_10(&self, embed: Embed<'_>) -> Result<f64> {
        Ok(self.ndcg(&embed(&self.queries)?, &embed(&self.documents)?))
    }

    /// The texts it needs, for a caller that embeds once and cuts often: queries, then documents.
    pub fn texts(&self) -> (&[String], &[String]) {
        (&self.queries, &self.documents)
    }

    /// As [`Retrieval::ndcg_at_10`], from the vectors of queries and documents, which have length 1.
    pub fn ndcg(&self, queries: &Embeddings, documents: &Embeddings) -> f64 {
        let pool = Pool::shared(None);
        let (dim, count) = (documents.dim(), documents.len());
        let mut sum = 0.0;
        for (block, vectors) in queries.as_slice().chunks(QUERIES * dim).enumerate() {
            let mut scores = vec![0.0; vectors.len() / dim * count];
            dot_matrix(&pool, vectors, documents.as_slice(), dim, &mut scores);
            for (query, scores) in scores.chunks(count).enumerate() {
                sum += ndcg_at_10(&nearest(scores), &self.judged[block * QUERIES + query]);
            }
        }
        sum / self.judged.len() as f64
    }
}

/// The ten documents with the highest scores, the earlier first among equals.
fn nearest(scores: &[f32]) -> Vec<usize> {
    let better = |&i: &usize, &j: &usize| scores[j].total_cmp(&scores[i]).then(i.cmp(&j));
    let mut order: Vec<usize> = (0..scores.len()).collect();
    if order.len() > 10 {
        order.select_nth_unstable_by(10, better);
        order.truncate(10);
    }
    order.sort_by(better);
    order
}

/// `Σ relevance / log2(rank + 1)` over the ranking, by the same of the best ranking possible (as trec_eval's ndcg_cut).
fn ndcg_at_10(ranking: &[usize], judged: &[(usize, f64)]) -> f64 {
    let gain = |place: usize, relevance: f64| relevance / (place as f64 + 2.0).log2();
    let found = |document: usize| judged.iter().find(|j| j.0 == document).map_or(0.0, |j| j.1);
    let reached: f64 = ranking.iter().take(10).enumerate().map(|(place, &document)| gain(place, found(document))).sum();
    let mut best: Vec<f64> = judged.iter().map(|j| j.1).collect();
    best.sort_by(|a, b| b.total_cmp(a));
    let ideal: f64 = best.into_iter().take(10).enumerate().map(|(place, relevance)| gain(place, relevance)).sum();
    if ideal > 0.0 { reached / ideal } else { 0.0 }
}

fn json(line: &str, file: &Path, number: usize) -> Result<serde_json::Value> {
    serde_json::from_str(line).map_err(|e| wrong(file, number, "a JSON object", &e.to_string()))
}

fn text_of<'a>(row: &'a serde_json::Value, key: &str, file: &Path, number: usize) -> Result<&'a str> {
    row[key].as_str().ok_or_else(|| wrong(file, number, &format!("a text {key}"), "none"))
}

fn wrong(file: &Path, number: usize, expected: &str, found: &str) -> Error {
    Error::new(ErrorKind::Malformed, format!("line {}: expected {expected}, found {found}", number + 1)).in_file(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ndcg_by_hand() {
        // Relevant documents 7 and 3; 7 found in place 2.
        let judged = [(7, 1.0), (3, 1.0)];
        let expected = (1.0 / 3f64.log2()) / (1.0 + 1.0 / 3f64.log2());
        assert!((ndcg_at_10(&[1, 7, 2], &judged) - expected).abs() < 1e-15);
        assert_eq!(ndcg_at_10(&[7, 3], &judged), 1.0);
        // Graded: the better document first is worth more.
        let graded = [(0, 2.0), (1, 1.0)];
        assert!(ndcg_at_10(&[0, 1], &graded) > ndcg_at_10(&[1, 0], &graded));
        assert_eq!(ndcg_at_10(&[1, 2], &[]), 0.0);
    }

    #[test]
    fn the_nearest_come_first_and_equals_in_order() {
        let mut scores = vec![0.0; 30];
        (scores[20], scores[4], scores[9]) = (0.9, 0.5, 0.5);
        assert_eq!(nearest(&scores)[..4], [20, 4, 9, 0]);
        assert_eq!(nearest(&scores).len(), 10);
    }

    #[test]
    fn a_folder_is_read_and_ranked() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("qrels")).unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        write(
            "corpus.jsonl",
            "{\"_id\":\"a\",\"title\":\"x\",\"text\":\"one\"}\n{\"_id\":\"b\",\"title\":\"\",\"text\":\"two\"}\n",
        );
        write("queries.jsonl", "{\"_id\":\"q\",\"text\":\"two?\"}\n{\"_id\":\"unjudged\",\"text\":\"?\"}\n");
        write("qrels/test.tsv", "query-id\tcorpus-id\tscore\nq\tb\t1\nq\ta\t0\n");
        let set = Retrieval::read(folder.path(), "test").unwrap();
        assert_eq!(set.documents, ["x one", "two"]);
        assert_eq!(set.queries, ["two?"]);
        let embed = |texts: &[String]| {
            let row = |t: &String| if t.contains("two") { [1.0, 0.0] } else { [0.0, 1.0] };
            Ok(Embeddings::new(texts.iter().flat_map(row).collect(), 2))
        };
        assert_eq!(set.ndcg_at_10(&embed).unwrap(), 1.0);
        write("qrels/test.tsv", "query-id\tcorpus-id\tscore\nq\tc\t1\n");
        let error = Retrieval::read(folder.path(), "test").unwrap_err();
        assert!(error.to_string().contains("line 2: expected the _id of a document, found c"), "{error}");
    }
}
