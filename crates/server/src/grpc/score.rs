//! The services `Predict` and `Rerank`.

use super::{
    Service,
    call::{Answer, Answers, Call, messages, stream, unary},
    proto::tei::{
        PredictPairRequest, PredictRequest, PredictResponse, Prediction, Rank, RerankRequest, RerankResponse,
        RerankStreamRequest, predict_server::Predict, rerank_server::Rerank,
    },
    status::status,
};
use crate::{
    dialect::tei::{
        How,
        score::{self, item, predicted, ranked},
    },
    failure::Failure,
    pipeline::{Computed, Item},
};
use embral::Scores;
use futures_util::StreamExt;
use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    time::Instant,
};
use tonic::{Request, Response, Status, Streaming, async_trait};

async fn predictions(call: Call, how: How, item: Item, raw: bool) -> Result<Answer<PredictResponse>, Failure> {
    let scores = raw.then_some(Scores::Logits);
    let (rows, computed) = predicted(&call.asked, &how, vec![item], scores).await?;
    let prediction = |found: score::Prediction| Prediction { score: found.score, label: found.label.to_string() };
    let predictions = rows.into_iter().flatten().map(prediction).collect();
    Ok(Answer::computed(call.start, computed, |metadata| PredictResponse { predictions, metadata: Some(metadata) }))
}

async fn predict(call: Call, message: PredictRequest) -> Result<Answer<PredictResponse>, Failure> {
    let how = call.how(message.truncate, message.truncation_direction, None);
    predictions(call, how, Item::Text(message.inputs), message.raw_scores).await
}

async fn predict_pair(call: Call, message: PredictPairRequest) -> Result<Answer<PredictResponse>, Failure> {
    let how = call.how(message.truncate, message.truncation_direction, None);
    predictions(call, how, item(message.inputs)?, message.raw_scores).await
}

async fn rerank(call: Call, message: RerankRequest) -> Result<Answer<RerankResponse>, Failure> {
    let how = call.how(message.truncate, message.truncation_direction, None);
    let mut kept = if message.return_text { message.texts.clone() } else { Vec::new() };
    let (found, computed) = ranked(&call.asked, &how, (&message.query, message.texts), message.raw_scores).await?;
    let rank = |found: crate::pipeline::Ranked| Rank {
        index: u32::try_from(found.index).unwrap_or(u32::MAX),
        text: kept.get_mut(found.index).map(std::mem::take),
        score: found.score,
    };
    let ranks = found.into_iter().map(rank).collect();
    Ok(Answer::computed(call.start, computed, |metadata| RerankResponse { ranks, metadata: Some(metadata) }))
}

/// One text of a stream that is ranked.
struct Scored {
    score: f32,
    text: Option<String>,
    computed: Computed,
}

/// What the first message of a stream says for all of it.
#[derive(Default)]
struct First(AtomicU8);

impl First {
    /// `raw_scores` and `return_text` of the first message, given those of any.
    fn of(&self, raw: bool, text: bool) -> (bool, bool) {
        let mine = 4 | u8::from(raw) | u8::from(text) << 1;
        let kept = match self.0.compare_exchange(0, mine, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => mine,
            Err(kept) => kept,
        };
        (kept & 1 != 0, kept & 2 != 0)
    }
}

async fn one(call: Call, message: RerankStreamRequest, first: Arc<First>) -> Result<Scored, Failure> {
    let (raw, with_text) = first.of(message.raw_scores, message.return_text);
    let how = call.how(message.truncate, message.truncation_direction, None);
    let text = with_text.then(|| message.text.clone());
    let (found, computed) = ranked(&call.asked, &how, (&message.query, vec![message.text]), raw).await?;
    Ok(Scored { score: found.first().map_or(f32::NEG_INFINITY, |found| found.score), text, computed })
}

#[async_trait]
impl Predict for Service {
    type PredictStreamStream = Answers<PredictResponse>;
    type PredictPairStreamStream = Answers<PredictResponse>;

    async fn predict(&self, request: Request<PredictRequest>) -> Result<Response<PredictResponse>, Status> {
        unary(self, "/predict", request, predict).await
    }

    async fn predict_pair(&self, request: Request<PredictPairRequest>) -> Result<Response<PredictResponse>, Status> {
        unary(self, "/predict", request, predict_pair).await
    }

    async fn predict_stream(
        &self,
        request: Request<Streaming<PredictRequest>>,
    ) -> Result<Response<Self::PredictStreamStream>, Status> {
        stream(self, "/predict", request, predict)
    }

    async fn predict_pair_stream(
        &self,
        request: Request<Streaming<PredictPairRequest>>,
    ) -> Result<Response<Self::PredictPairStreamStream>, Status> {
        stream(self, "/predict", request, predict_pair)
    }
}

#[async_trait]
impl Rerank for Service {
    async fn rerank(&self, request: Request<RerankRequest>) -> Result<Response<RerankResponse>, Status> {
        unary(self, "/rerank", request, rerank).await
    }

    async fn rerank_stream(
        &self,
        request: Request<Streaming<RerankStreamRequest>>,
    ) -> Result<Response<RerankResponse>, Status> {
        let start = Instant::now();
        let first = Arc::new(First::default());
        let scored = messages(self, "/rerank", request, move |call, message| one(call, message, Arc::clone(&first)))?;
        let mut scored = pin!(scored);
        let (mut ranks, mut sum) = (Vec::new(), Computed::default());
        while let Some(next) = scored.next().await {
            let Scored { score, text, computed } = next?;
            // What is ranked is kept until the end of the stream, and is bounded as over HTTP.
            self.app.check_count(ranks.len() + 1).map_err(|failure| status(&failure))?;
            ranks.push(Rank { index: u32::try_from(ranks.len()).unwrap_or(u32::MAX), text, score });
            sum.characters += computed.characters;
            sum.timings.tokenize = sum.timings.tokenize.max(computed.timings.tokenize);
            sum.timings.queue = sum.timings.queue.max(computed.timings.queue);
            sum.timings.inference = sum.timings.inference.max(computed.timings.inference);
            sum.rows.extend(computed.rows);
        }
        if ranks.is_empty() {
            return Err(Status::invalid_argument("`texts` cannot be empty"));
        }
        ranks.sort_by(|a, b| b.score.total_cmp(&a.score));
        let answer = |metadata| RerankResponse { ranks, metadata: Some(metadata) };
        Ok(Answer::computed(start, sum, answer).into_response())
    }
}
