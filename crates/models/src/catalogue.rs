//! The models known by name: what their own folders do not say, and what a person chooses by.
//!
//! What a folder says is believed over what stands here.

use crate::Task;
use embral_types::Pooling;

/// A known model.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Entry {
    /// The short name, as `all-MiniLM-L6-v2`.
    pub name: &'static str,
    /// The name on the hub, `org/name`.
    pub repo: &'static str,
    /// The `model_type` of its configuration; `static` for tables of token vectors.
    pub architecture: &'static str,
    /// What it is for.
    pub task: Task,
    /// Components of the embedding; of a reranker, its one score, and of a sparse model, the entries of its vocabulary.
    pub dims: usize,
    /// The most tokens of a text; `None` where nothing limits them.
    pub max_tokens: Option<usize>,
    /// Parameters, in millions.
    pub parameters: f32,
    /// How token rows become one vector.
    pub pooling: Pooling,
    /// Named prompts: `query` and `document` where the model distinguishes them.
    pub prompts: &'static [(&'static str, &'static str)],
    /// The widths the embedding may be cut to, largest first.
    pub matryoshka: &'static [usize],
    /// Whether a vector is layer-normed, without scale and shift, before it is cut.
    pub norm_before_cut: bool,
    /// SPDX identifier of the weights' licence.
    pub licence: &'static str,
    /// Megabytes of the weight file.
    pub size_mb: u32,
    /// Whether this version runs it.
    pub supported: bool,
}

/// The model called `name`: a short name or `org/name`, in any case.
pub fn find(name: &str) -> Option<&'static Entry> {
    ENTRIES.iter().find(|e| e.name.eq_ignore_ascii_case(name) || e.repo.eq_ignore_ascii_case(name))
}

const BGE_QUERY: &[(&str, &str)] = &[("query", "Represent this sentence for searching relevant passages: ")];
const QUERY: &[(&str, &str)] = &[("query", "query: ")];
const E5: &[(&str, &str)] = &[("query", "query: "), ("document", "passage: ")];
const NOMIC: &[(&str, &str)] = &[
    ("query", "search_query: "),
    ("document", "search_document: "),
    ("classification", "classification: "),
    ("clustering", "clustering: "),
];
const QWEN3: &[(&str, &str)] = &[
    ("query", "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery:"),
    ("document", ""),
];
const E5_INSTRUCT: &[(&str, &str)] =
    &[("query", "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery: ")];
const JINA_V3: &[(&str, &str)] = &[
    ("query", "Represent the query for retrieving evidence documents: "),
    ("document", "Represent the document for retrieval: "),
];
const GEMMA: &[(&str, &str)] = &[("query", "task: search result | query: "), ("document", "title: none | text: ")];

/// BERT of 6 layers and 384 components.
const BERT_XS: Entry = Entry {
    name: "",
    repo: "",
    architecture: "bert",
    task: Task::Embedding,
    dims: 384,
    max_tokens: Some(512),
    parameters: 22.7,
    pooling: Pooling::Mean,
    prompts: &[],
    matryoshka: &[],
    norm_before_cut: false,
    licence: "Apache-2.0",
    size_mb: 91,
    supported: true,
};
/// BERT of 12 layers and 384 components.
const BERT_S: Entry = Entry { parameters: 33.4, size_mb: 133, ..BERT_XS };
/// BERT of 12 layers and 768 components.
const BERT_M: Entry = Entry { dims: 768, parameters: 109.5, size_mb: 438, ..BERT_XS };
/// BERT of 24 layers and 1024 components.
const BERT_L: Entry = Entry { dims: 1024, parameters: 335.1, size_mb: 1341, ..BERT_XS };
/// A model2vec table, whose components are in the order of a principal component analysis, so that any cut is meaningful.
const POTION: Entry = Entry { architecture: "static", licence: "MIT", ..BERT_XS };
const XLM_R: Entry = Entry { architecture: "xlm-roberta", dims: 1024, parameters: 560.0, size_mb: 2240, ..BERT_XS };
const NOMIC_BERT: Entry =
    Entry { architecture: "nomic_bert", dims: 768, max_tokens: Some(8192), parameters: 136.7, size_mb: 547, ..BERT_XS };
const MODERNBERT: Entry = Entry { architecture: "modernbert", parameters: 149.0, size_mb: 596, ..NOMIC_BERT };
const GTE_NEW: Entry = Entry { architecture: "new", pooling: Pooling::Cls, ..NOMIC_BERT };
const JINA_BERT: Entry = Entry { architecture: "jina_bert", parameters: 137.4, size_mb: 275, ..NOMIC_BERT };
/// A cross-encoder with one label.
const RERANKER: Entry = Entry { task: Task::Classification, dims: 1, pooling: Pooling::Cls, ..BERT_XS };
/// SPLADE on BERT of 12 layers and its vocabulary.
const SPLADE: Entry = Entry { task: Task::Sparse, dims: 30_522, ..BERT_M };

/// Every known model: those this version runs, then those it knows of.
#[rustfmt::skip]
pub const ENTRIES: &[Entry] = &[
    Entry { name: "all-MiniLM-L6-v2", repo: "sentence-transformers/all-MiniLM-L6-v2", max_tokens: Some(256), ..BERT_XS },
    Entry { name: "all-MiniLM-L12-v2", repo: "sentence-transformers/all-MiniLM-L12-v2", max_tokens: Some(128), ..BERT_S },
    Entry { name: "bge-small-en-v1.5", repo: "BAAI/bge-small-en-v1.5", pooling: Pooling::Cls, prompts: BGE_QUERY, licence: "MIT", ..BERT_S },
    Entry { name: "bge-base-en-v1.5", repo: "BAAI/bge-base-en-v1.5", pooling: Pooling::Cls, prompts: BGE_QUERY, licence: "MIT", ..BERT_M },
    Entry { name: "bge-large-en-v1.5", repo: "BAAI/bge-large-en-v1.5", pooling: Pooling::Cls, prompts: BGE_QUERY, licence: "MIT", ..BERT_L },
    Entry { name: "e5-small-v2", repo: "intfloat/e5-small-v2", prompts: E5, licence: "MIT", ..BERT_S },
    Entry { name: "e5-base-v2", repo: "intfloat/e5-base-v2", prompts: E5, licence: "MIT", ..BERT_M },
    Entry { name: "e5-large-v2", repo: "intfloat/e5-large-v2", prompts: E5, licence: "MIT", ..BERT_L },
    Entry { name: "multilingual-e5-small", repo: "intfloat/multilingual-e5-small", prompts: E5, licence: "MIT", parameters: 117.7, size_mb: 471, ..BERT_S },
    Entry { name: "gte-small", repo: "thenlper/gte-small", licence: "MIT", size_mb: 67, ..BERT_S },
    Entry { name: "gte-base", repo: "thenlper/gte-base", licence: "MIT", size_mb: 219, ..BERT_M },
    Entry { name: "gte-large", repo: "thenlper/gte-large", licence: "MIT", size_mb: 670, ..BERT_L },
    Entry { name: "mxbai-embed-large-v1", repo: "mixedbread-ai/mxbai-embed-large-v1", pooling: Pooling::Cls, prompts: BGE_QUERY, matryoshka: &[1024, 512, 256, 128, 64], size_mb: 670, ..BERT_L },
    Entry { name: "snowflake-arctic-embed-xs", repo: "Snowflake/snowflake-arctic-embed-xs", pooling: Pooling::Cls, prompts: BGE_QUERY, ..BERT_XS },
    Entry { name: "snowflake-arctic-embed-s", repo: "Snowflake/snowflake-arctic-embed-s", pooling: Pooling::Cls, prompts: BGE_QUERY, ..BERT_S },
    Entry { name: "snowflake-arctic-embed-m", repo: "Snowflake/snowflake-arctic-embed-m", pooling: Pooling::Cls, prompts: BGE_QUERY, ..BERT_M },
    Entry { name: "snowflake-arctic-embed-m-v1.5", repo: "Snowflake/snowflake-arctic-embed-m-v1.5", pooling: Pooling::Cls, prompts: BGE_QUERY, matryoshka: &[768, 256], ..BERT_M },
    Entry { name: "snowflake-arctic-embed-l", repo: "Snowflake/snowflake-arctic-embed-l", pooling: Pooling::Cls, prompts: BGE_QUERY, ..BERT_L },
    Entry { name: "Qwen3-Embedding-0.6B", repo: "Qwen/Qwen3-Embedding-0.6B", architecture: "qwen3", dims: 1024, max_tokens: Some(32_768), parameters: 595.8, pooling: Pooling::Last, prompts: QWEN3, matryoshka: &[1024, 768, 512, 256, 128, 64, 32], size_mb: 1192, ..BERT_XS },
    Entry { name: "potion-base-2M", repo: "minishlab/potion-base-2M", dims: 64, parameters: 1.9, size_mb: 8, ..POTION },
    Entry { name: "potion-base-4M", repo: "minishlab/potion-base-4M", dims: 128, parameters: 3.8, matryoshka: &[128, 64], size_mb: 15, ..POTION },
    Entry { name: "potion-base-8M", repo: "minishlab/potion-base-8M", dims: 256, parameters: 7.6, matryoshka: &[256, 128, 64], size_mb: 30, ..POTION },
    Entry { name: "potion-base-32M", repo: "minishlab/potion-base-32M", dims: 512, parameters: 32.3, matryoshka: &[512, 256, 128, 64], size_mb: 129, ..POTION },
    Entry { name: "potion-retrieval-32M", repo: "minishlab/potion-retrieval-32M", dims: 512, parameters: 32.3, matryoshka: &[512, 256, 128, 64], size_mb: 129, ..POTION },
    Entry { name: "potion-multilingual-128M", repo: "minishlab/potion-multilingual-128M", dims: 256, parameters: 128.1, matryoshka: &[256, 128, 64], size_mb: 513, ..POTION },
    Entry { name: "static-retrieval-mrl-en-v1", repo: "sentence-transformers/static-retrieval-mrl-en-v1", architecture: "static", dims: 1024, max_tokens: None, parameters: 31.3, matryoshka: &[1024, 512, 256, 128, 64, 32], size_mb: 125, ..BERT_XS },
    Entry { name: "static-similarity-mrl-multilingual-v1", repo: "sentence-transformers/static-similarity-mrl-multilingual-v1", architecture: "static", dims: 1024, max_tokens: None, parameters: 108.4, matryoshka: &[1024, 512, 256, 128, 64, 32], size_mb: 434, ..BERT_XS },

    Entry { name: "ms-marco-MiniLM-L6-v2", repo: "cross-encoder/ms-marco-MiniLM-L6-v2", ..RERANKER },
    Entry { name: "ms-marco-MiniLM-L12-v2", repo: "cross-encoder/ms-marco-MiniLM-L12-v2", parameters: 33.4, size_mb: 133, ..RERANKER },
    Entry { name: "Qwen3-Reranker-0.6B", repo: "Qwen/Qwen3-Reranker-0.6B", architecture: "qwen3", task: Task::Generation, max_tokens: Some(32_768), parameters: 595.8, pooling: Pooling::Last, size_mb: 1192, ..RERANKER },
    Entry { name: "splade-v3", repo: "naver/splade-v3", licence: "CC-BY-NC-SA-4.0", ..SPLADE },
    Entry { name: "Splade_PP_en_v1", repo: "prithivida/Splade_PP_en_v1", ..SPLADE },
    Entry { name: "colbertv2.0", repo: "colbert-ir/colbertv2.0", task: Task::MultiVector, dims: 128, licence: "MIT", ..BERT_M },
    Entry { name: "answerai-colbert-small-v1", repo: "answerdotai/answerai-colbert-small-v1", task: Task::MultiVector, dims: 96, ..BERT_S },

    Entry { name: "bge-reranker-base", repo: "BAAI/bge-reranker-base", task: Task::Classification, dims: 1, licence: "MIT", parameters: 278.0, size_mb: 1112, ..XLM_R },
    Entry { name: "bge-reranker-large", repo: "BAAI/bge-reranker-large", task: Task::Classification, dims: 1, licence: "MIT", ..XLM_R },
    Entry { name: "bge-reranker-v2-m3", repo: "BAAI/bge-reranker-v2-m3", task: Task::Classification, dims: 1, max_tokens: Some(8192), parameters: 568.0, size_mb: 2271, ..XLM_R },
    Entry { name: "gte-reranker-modernbert-base", repo: "Alibaba-NLP/gte-reranker-modernbert-base", task: Task::Classification, dims: 1, size_mb: 298, ..MODERNBERT },
    Entry { name: "all-mpnet-base-v2", repo: "sentence-transformers/all-mpnet-base-v2", architecture: "mpnet", max_tokens: Some(384), ..BERT_M },
    Entry { name: "bge-m3", repo: "BAAI/bge-m3", max_tokens: Some(8192), parameters: 568.0, pooling: Pooling::Cls, licence: "MIT", size_mb: 2271, ..XLM_R },
    Entry { name: "multilingual-e5-base", repo: "intfloat/multilingual-e5-base", dims: 768, prompts: E5, licence: "MIT", parameters: 278.0, size_mb: 1112, ..XLM_R },
    Entry { name: "multilingual-e5-large", repo: "intfloat/multilingual-e5-large", prompts: E5, licence: "MIT", ..XLM_R },
    Entry { name: "multilingual-e5-large-instruct", repo: "intfloat/multilingual-e5-large-instruct", prompts: E5_INSTRUCT, licence: "MIT", size_mb: 1120, ..XLM_R },
    Entry { name: "nomic-embed-text-v1.5", repo: "nomic-ai/nomic-embed-text-v1.5", prompts: NOMIC, matryoshka: &[768, 512, 256, 128, 64], norm_before_cut: true, ..NOMIC_BERT },
    Entry { name: "nomic-embed-text-v2-moe", repo: "nomic-ai/nomic-embed-text-v2-moe", max_tokens: Some(512), parameters: 475.0, prompts: NOMIC, matryoshka: &[768, 256], size_mb: 1901, ..NOMIC_BERT },
    Entry { name: "modernbert-embed-base", repo: "nomic-ai/modernbert-embed-base", prompts: NOMIC, matryoshka: &[768, 256], ..MODERNBERT },
    Entry { name: "gte-modernbert-base", repo: "Alibaba-NLP/gte-modernbert-base", pooling: Pooling::Cls, size_mb: 298, ..MODERNBERT },
    Entry { name: "gte-base-en-v1.5", repo: "Alibaba-NLP/gte-base-en-v1.5", ..GTE_NEW },
    Entry { name: "gte-large-en-v1.5", repo: "Alibaba-NLP/gte-large-en-v1.5", dims: 1024, parameters: 434.0, size_mb: 1736, ..GTE_NEW },
    Entry { name: "gte-multilingual-base", repo: "Alibaba-NLP/gte-multilingual-base", parameters: 305.0, matryoshka: &[768, 512, 256, 128], size_mb: 611, ..GTE_NEW },
    Entry { name: "snowflake-arctic-embed-m-long", repo: "Snowflake/snowflake-arctic-embed-m-long", max_tokens: Some(2048), pooling: Pooling::Cls, prompts: BGE_QUERY, ..NOMIC_BERT },
    Entry { name: "snowflake-arctic-embed-m-v2.0", repo: "Snowflake/snowflake-arctic-embed-m-v2.0", architecture: "gte", parameters: 305.0, prompts: QUERY, matryoshka: &[768, 256], size_mb: 1221, ..GTE_NEW },
    Entry { name: "snowflake-arctic-embed-l-v2.0", repo: "Snowflake/snowflake-arctic-embed-l-v2.0", max_tokens: Some(8192), parameters: 568.0, pooling: Pooling::Cls, prompts: QUERY, matryoshka: &[1024, 256], size_mb: 2271, ..XLM_R },
    Entry { name: "jina-embeddings-v2-small-en", repo: "jinaai/jina-embeddings-v2-small-en", dims: 512, parameters: 32.7, size_mb: 65, ..JINA_BERT },
    Entry { name: "jina-embeddings-v2-base-en", repo: "jinaai/jina-embeddings-v2-base-en", ..JINA_BERT },
    Entry { name: "jina-embeddings-v2-base-code", repo: "jinaai/jina-embeddings-v2-base-code", parameters: 160.8, size_mb: 322, ..JINA_BERT },
    Entry { name: "jina-embeddings-v3", repo: "jinaai/jina-embeddings-v3", architecture: "jina_embeddings_v3", supported: false, max_tokens: Some(8192), parameters: 572.3, prompts: JINA_V3, matryoshka: &[1024, 768, 512, 256, 128, 64, 32], licence: "CC-BY-NC-4.0", size_mb: 1144, ..XLM_R },
    Entry { name: "embeddinggemma-300m", repo: "google/embeddinggemma-300m", architecture: "gemma3_text", max_tokens: Some(2048), parameters: 307.6, prompts: GEMMA, matryoshka: &[768, 512, 256, 128], licence: "LicenseRef-Gemma", size_mb: 1211, ..NOMIC_BERT },
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ARCHITECTURES;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_found_short_and_long_in_any_case() {
        for name in ["all-MiniLM-L6-v2", "ALL-minilm-l6-V2", "sentence-transformers/all-minilm-l6-v2"] {
            assert_eq!(find(name).unwrap().dims, 384);
        }
        assert!(find("all-MiniLM").is_none() && find("").is_none());
    }

    #[test]
    fn every_row_is_whole_and_alone_under_its_name() {
        let mut names = BTreeSet::new();
        for entry in ENTRIES {
            let name = entry.name;
            assert!(names.insert(name.to_lowercase()), "{name} twice");
            assert_eq!(entry.repo.split_once('/').map(|(_, name)| name), Some(name));
            assert!(entry.matryoshka.first().is_none_or(|&first| first == entry.dims), "{name}");
            assert!(entry.matryoshka.is_sorted_by(|a, b| a > b), "{name}");
            assert!(entry.size_mb as f32 > entry.parameters * 1.9, "{name}: no weight takes less than two bytes");
        }
    }

    #[test]
    fn what_is_said_to_run_has_an_architecture_and_the_rest_has_none() {
        for entry in ENTRIES {
            let known = entry.architecture == "static" || ARCHITECTURES.iter().any(|a| a.name == entry.architecture);
            assert_eq!(entry.supported, known, "{}", entry.name);
        }
    }
}
