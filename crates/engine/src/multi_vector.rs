//! Multi-vector embeddings: one vector a token, compared by MaxSim, as ColBERT has it.

use crate::{
    Config, ModelInfo, Profile, Prompt,
    embedder::finite,
    pairs,
    session::Texts,
    token_model::{TokenModel, Wanted},
};
use embral_models::{Expansion, MaxSim, ModelFolder, Network, RoleSpec, View};
use embral_tokenize::{Encoded, Tokenizer};
use embral_types::{Embeddings, Error, ErrorKind, Mask, Result};

/// A model that gives every token of a text a vector: ColBERT, and bge-m3.
///
/// As an [`crate::Embedder`], it gives a text the same vectors, bit for bit, alone and in any company.
pub struct MultiVectorEmbedder {
    pub(crate) model: TokenModel,
    query: Role,
    document: Role,
    expansion: Option<Expanding>,
    pub(crate) skip_first: bool,
    similarity: MaxSim,
}

/// A query or a document, with the ids of what its specification names.
struct Role {
    /// Ids between the special tokens at the start and the text.
    lead: Vec<u32>,
    /// Text before the text.
    prompt: String,
    /// The most tokens; `None` is the limit of the model.
    limit: Option<usize>,
    /// Tokens without a vector, sorted.
    skip: Vec<u32>,
}

struct Expanding {
    id: u32,
    length: usize,
    attend: bool,
}

impl MultiVectorEmbedder {
    /// Opens a multi-vector model: a folder, an imported model, or an `org/name` of the hub.
    ///
    /// # Errors
    /// Where the model is not found, is no multi-vector model (the error says what it is), or its files disagree with each other.
    pub fn open(name_or_path: &str) -> Result<Self> {
        Self::with_config(Config::model(name_or_path))
    }

    /// Opens the model that `config` names.
    ///
    /// # Errors
    /// As [`MultiVectorEmbedder::open`], and where the configuration asks for what the model does not have.
    #[expect(clippy::needless_pass_by_value, reason = "a configuration is made for the one model it opens")]
    pub fn with_config(config: Config) -> Result<Self> {
        pairs::refuse_vectors(&config, "a vector a token")?;
        let (folder, name) = pairs::folder(&config, "a multi-vector model")?;
        let Some(spec) = &folder.outputs.multi_vector else {
            return Err(folder.task.instead_of("a multi-vector model", &folder.root));
        };
        let model = TokenModel::open(&folder, &name, &config, None, Some(spec))?;
        let role = |spec: &RoleSpec, prompt| Role::new(spec, model.info.prompt_text(prompt)?, &model.tokenizer);
        let (query, document) = (role(&spec.query, Prompt::Query)?, role(&spec.document, Prompt::Document)?);
        let expanding = |expansion| Expanding::new(expansion, &folder, &model.tokenizer);
        Ok(Self {
            query,
            document,
            expansion: spec.expansion.as_ref().map(expanding).transpose()?,
            skip_first: spec.skip_first,
            similarity: spec.similarity,
            model,
        })
    }

    /// Embeds queries: one set of vectors a query, `[tokens, dimensions]` each, in their order.
    ///
    /// # Errors
    /// Where a text is longer than the limit and truncation is refused; the error names it by its index.
    pub fn embed_query(&self, queries: &[impl AsRef<str> + Sync]) -> Result<Vec<Embeddings>> {
        self.embed(queries, &self.query, self.expansion.as_ref())
    }

    /// Embeds documents: one set of vectors a document, `[tokens, dimensions]` each, in their order.
    ///
    /// # Errors
    /// As [`MultiVectorEmbedder::embed_query`].
    pub fn embed_document(&self, documents: &[impl AsRef<str> + Sync]) -> Result<Vec<Embeddings>> {
        self.embed(documents, &self.document, None)
    }

    fn embed(
        &self,
        texts: &[impl AsRef<str> + Sync],
        role: &Role,
        expansion: Option<&Expanding>,
    ) -> Result<Vec<Embeddings>> {
        let bytes = |index: usize| texts[index].as_ref().len();
        let encode = |index: usize| role.encode(&self.model.tokenizer, texts[index].as_ref(), expansion);
        let width = self.dimensions();
        let mut all = Vec::with_capacity(texts.len());
        let wanted = Wanted { tokens: true, ..Wanted::default() };
        self.model.run(&Texts { count: texts.len(), bytes: &bytes, encode: &encode }, wanted, &mut |work, found| {
            let mut rows = found.tokens.chunks_exact(width);
            for (index, encoded) in (work.first..).zip(work.encoded) {
                let kept = kept_rows(encoded, &mut rows, &role.skip, self.skip_first);
                finite(&kept, width * encoded.ids.len(), |_| index)?;
                all.push(Embeddings::new(kept, width));
            }
            Ok(())
        })?;
        Ok(all)
    }

    /// The ids of a query or a document, by a tokenizer of the model's that may cut in another way.
    pub(crate) fn encode_by(&self, tokenizer: &Tokenizer, text: &str, query: bool) -> Result<Encoded> {
        match query {
            true => self.query.encode(tokenizer, text, self.expansion.as_ref()),
            false => self.document.encode(tokenizer, text, None),
        }
    }

    /// The tokens of a query or a document that have no vector, sorted.
    pub(crate) fn skipped(&self, query: bool) -> &[u32] {
        if query { &self.query.skip } else { &self.document.skip }
    }

    /// Whether a prompt of this name is that of queries.
    pub(crate) fn is_query(&self, name: &str) -> bool {
        crate::prompt::is_query(name)
    }

    /// How well a document answers a query: MaxSim as the model was trained with it, the sum or the mean over the query's vectors.
    ///
    /// # Panics
    /// Where the widths differ and both have vectors.
    pub fn score(&self, query: &Embeddings, document: &Embeddings) -> f32 {
        match self.similarity {
            MaxSim::Sum => max_sim(query, document),
            MaxSim::Mean => max_sim(query, document) / query.len().max(1) as f32,
        }
    }

    /// Components of a token's vector.
    pub fn dimensions(&self) -> usize {
        self.model.width()
    }

    /// What the model is; its dimensions are those of a token's row under the projection.
    pub fn info(&self) -> &ModelInfo {
        &self.model.info
    }

    /// Where the time of the last finished call went.
    pub fn profile(&self) -> Profile {
        self.model.profile()
    }
}

impl Role {
    fn new(spec: &RoleSpec, prompt: &str, tokenizer: &Tokenizer) -> Result<Self> {
        let marker = spec.marker.as_deref().unwrap_or_default();
        let rest = prompt.strip_prefix(marker).unwrap_or(prompt);
        // A marker is one token where the vocabulary has it, with the space behind it or without.
        let word = marker.split_whitespace().next().unwrap_or_default();
        let whole =
            [marker, word].into_iter().find_map(|text| Some((text, tokenizer.id(text).filter(|_| !text.is_empty())?)));
        let (lead, prompt) = match whole {
            Some((token, id)) => {
                let behind = marker.split_once(token).map_or("", |(_, behind)| behind);
                (vec![id], [behind, rest].concat())
            }
            None => (Vec::new(), [marker, rest].concat()),
        };
        let mut skip: Vec<u32> = spec.skip.iter().filter_map(|word| tokenizer.id(word)).collect();
        skip.sort_unstable();
        Ok(Self { lead, prompt, limit: spec.max_tokens, skip })
    }

    fn encode(&self, tokenizer: &Tokenizer, text: &str, expansion: Option<&Expanding>) -> Result<Encoded> {
        let mut encoded = tokenizer.encode_behind(&self.lead, &self.prompt, text, self.limit)?;
        if let Some(Expanding { id, length, attend }) = expansion {
            encoded.expand(*id, *length, *attend);
        }
        Ok(encoded)
    }
}

impl Expanding {
    fn new(spec: &Expansion, folder: &ModelFolder, tokenizer: &Tokenizer) -> Result<Self> {
        let names = match &spec.token {
            Some(token) => vec![token.as_str()],
            None => vec!["[MASK]", "<mask>"],
        };
        let id = names.iter().find_map(|name| tokenizer.id(name)).ok_or_else(|| {
            let message = format!("queries are expanded with {}, which the vocabulary lacks", names.join(" or "));
            Error::new(ErrorKind::Mismatch, message).in_file(&folder.root)
        })?;
        if let Network::Transformer { blueprint, .. } = &folder.network
            && spec.length > blueprint.max_positions
        {
            let (length, positions) = (spec.length, blueprint.max_positions);
            let message = format!("queries are expanded to {length} tokens, and the model has {positions} positions");
            return Err(Error::new(ErrorKind::Mismatch, message).in_file(&folder.root));
        }
        if let Network::Transformer { blueprint, .. } = &folder.network
            && !spec.attend
            && let Some(reach) =
                blueprint.attention.views.iter().filter_map(reach).min().filter(|reach| *reach < spec.length)
        {
            let length = spec.length;
            let message = format!(
                "queries are expanded to {length} tokens that are not seen, and one further than {reach} tokens from the text would see none"
            );
            return Err(Error::new(ErrorKind::Unsupported, message).in_file(&folder.root));
        }
        Ok(Self { id, length: spec.length, attend: spec.attend })
    }
}

/// How far a token sees, where it does not see all.
fn reach(view: &View) -> Option<usize> {
    match view.mask {
        Mask::Full | Mask::Causal => None,
        Mask::Window(reach) | Mask::CausalWindow(reach) => Some(reach),
    }
}

/// The rows of one text that are kept, one behind the other; takes as many rows as the text has tokens.
pub(crate) fn kept_rows<'a>(
    encoded: &Encoded,
    rows: &mut impl Iterator<Item = &'a [f32]>,
    skip: &[u32],
    skip_first: bool,
) -> Vec<f32> {
    let mut kept = Vec::new();
    for (place, (id, row)) in encoded.ids.iter().zip(rows).enumerate() {
        if !(skip_first && place == 0) && skip.binary_search(id).is_err() {
            kept.extend_from_slice(row);
        }
    }
    kept
}

/// MaxSim: the sum over the vectors of `query` of the largest dot product with a vector of `document`; 0 where either has none.
///
/// # Panics
/// Where the widths differ and both have vectors.
pub fn max_sim(query: &Embeddings, document: &Embeddings) -> f32 {
    if query.is_empty() || document.is_empty() {
        return 0.0;
    }
    let products = crate::similarity(query, document);
    let largest = |row: &[f32]| row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    products.chunks_exact(document.len()).map(largest).sum()
}

impl std::fmt::Debug for MultiVectorEmbedder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MultiVectorEmbedder").field("info", self.info()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use embral_testkit::oracle;

    #[test]
    fn max_sim_is_the_triple_loop() {
        for (queries, documents, width) in [(1, 1, 1), (5, 3, 8), (32, 180, 128), (7, 40, 33), (3, 1, 96)] {
            let (q, d) = (oracle::numbers(1, queries * width), oracle::numbers(2, documents * width));
            let mut wanted = 0.0;
            for i in 0..queries {
                let mut largest = f64::NEG_INFINITY;
                for j in 0..documents {
                    let mut dot = 0.0;
                    for c in 0..width {
                        dot += f64::from(q[i * width + c]) * f64::from(d[j * width + c]);
                    }
                    largest = largest.max(dot);
                }
                wanted += largest;
            }
            let found = max_sim(&Embeddings::new(q, width), &Embeddings::new(d, width));
            // Sums of at most `width` products below 1, and of as many of those as there are vectors of the query.
            let allowed = 1e-6 * (width * queries) as f64;
            assert!((f64::from(found) - wanted).abs() <= allowed, "{queries} {documents} {width}: {found} {wanted}");
        }
        let one = Embeddings::new(vec![1.0, 2.0], 2);
        assert_eq!((max_sim(&one, &Embeddings::default()), max_sim(&Embeddings::default(), &one)), (0.0, 0.0));
    }

    #[test]
    fn rows_of_skipped_tokens_are_left_out() {
        let rows = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        let encoded = Encoded { ids: vec![7, 3, 9], ..Encoded::default() };
        let mut all = rows.chunks_exact(2);
        assert_eq!(kept_rows(&encoded, &mut all, &[3, 4], false), [1.0, 2.0, 5.0, 6.0]);
        assert_eq!(kept_rows(&encoded, &mut rows.chunks_exact(2), &[], true), [3.0, 4.0, 5.0, 6.0]);
        assert!(all.next().is_none());
    }
}
