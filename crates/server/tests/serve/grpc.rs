//! TEI's gRPC, through the client that is made of the same `.proto` files.

use crate::support::{Running, bits, golden, golden_config, of_task, settings, start, task};
use embral::{Classifier, Config, Embedder, Reranker, SparseEmbedder};
use embral_server::Settings;
use embral_testkit::tasks::TaskGolden;
use futures_util::{StreamExt, stream};
use proto::{
    health::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient},
    tei::{
        DecodeRequest, EmbedAllRequest, EmbedRequest, EmbedSparseRequest, EncodeRequest, InfoRequest, ModelType,
        PredictPairRequest, PredictRequest, RerankRequest, RerankStreamRequest, TruncationDirection,
        embed_client::EmbedClient, info_client::InfoClient, predict_client::PredictClient, rerank_client::RerankClient,
        tokenize_client::TokenizeClient,
    },
};
use std::time::Duration;
use tonic::{
    Code, Request,
    transport::{Channel, Endpoint},
};

#[allow(unreachable_pub, clippy::all, clippy::pedantic)]
mod proto {
    pub(crate) mod tei {
        tonic::include_proto!("tei.v1");
    }
    pub(crate) mod health {
        tonic::include_proto!("grpc.health.v1");
    }
}

const TEXTS: [&str; 3] = ["a cat sat on the mat", "rates", "Straße – 猫"];

/// A server with a port for gRPC.
fn running(settings: Settings) -> Running {
    start(Settings { grpc_port: Some(0), ..settings })
}

async fn channel(server: &Running) -> Channel {
    let address = format!("http://{}", server.grpc_address().unwrap());
    Endpoint::from_shared(address).unwrap().connect().await.unwrap()
}

fn embed(text: &str) -> EmbedRequest {
    EmbedRequest { inputs: text.to_owned(), truncate: true, ..EmbedRequest::default() }
}

#[test]
fn vectors_are_those_of_the_library_one_by_one_and_as_a_stream() {
    let server = running(Settings { models: vec![golden("tiny_bert")], ..settings() });
    let embedder = Embedder::with_config(golden_config("tiny_bert")).unwrap();
    let raw = Embedder::with_config(Config { normalize: Some(false), ..golden_config("tiny_bert") }).unwrap();
    let wanted: Vec<Vec<u32>> = TEXTS.iter().map(|text| bits(&embedder.embed(text).unwrap())).collect();
    server.block_on(async {
        let mut client = EmbedClient::new(channel(&server).await);
        for (text, wanted) in TEXTS.iter().zip(&wanted) {
            let answer = client.embed(embed(text)).await.unwrap();
            assert!(answer.metadata().get("x-inference-time").is_some(), "{:?}", answer.metadata());
            let answer = answer.into_inner();
            assert_eq!(bits(&answer.embeddings), *wanted);
            let metadata = answer.metadata.unwrap();
            assert_eq!(metadata.compute_tokens as usize, embedder.tokenize(text).unwrap().len());
            assert_eq!(metadata.compute_chars as usize, text.chars().count());
            assert!(metadata.total_time_ns >= metadata.inference_time_ns && metadata.inference_time_ns > 0);
        }
        let plain = EmbedRequest { normalize: Some(false), ..embed(TEXTS[0]) };
        let answer = client.embed(plain).await.unwrap().into_inner();
        assert_eq!(bits(&answer.embeddings), bits(&raw.embed(TEXTS[0]).unwrap()));

        // More than are under way at once, answered in their order.
        let many = stream::iter((0..700).map(|i| embed(TEXTS[i % 3])));
        let answers: Vec<_> = client.embed_stream(many).await.unwrap().into_inner().collect().await;
        assert_eq!(answers.len(), 700);
        for (i, answer) in answers.into_iter().enumerate() {
            assert_eq!(bits(&answer.unwrap().embeddings), wanted[i % 3], "{i}");
        }
        let all = EmbedAllRequest { inputs: TEXTS[0].to_owned(), truncate: true, ..EmbedAllRequest::default() };
        let rows = client.embed_all(all).await.unwrap().into_inner().token_embeddings;
        assert_eq!(rows.len(), embedder.tokenize(TEXTS[0]).unwrap().len());
        let over_http = server.post("/embed_all", &serde_json::json!({ "inputs": TEXTS[0] })).json(200);
        for (row, wanted) in rows.iter().zip(over_http[0].as_array().unwrap()) {
            assert_eq!(bits(&row.embeddings), crate::support::bits_of(wanted));
        }

        let mut client = TokenizeClient::new(channel(&server).await);
        let request =
            EncodeRequest { inputs: TEXTS[2].to_owned(), add_special_tokens: true, ..EncodeRequest::default() };
        let tokens = client.tokenize(request).await.unwrap().into_inner().tokens;
        let ids: Vec<u32> = tokens.iter().map(|token| token.id).collect();
        assert_eq!(ids, embedder.tokenize(TEXTS[2]).unwrap());
        for token in tokens.iter().filter(|token| !token.special) {
            assert_eq!(token.text, TEXTS[2][token.start() as usize..token.stop() as usize]);
        }
        let decode = |skip_special_tokens| DecodeRequest { ids: ids.clone(), skip_special_tokens };
        let whole = client.decode(decode(false)).await.unwrap().into_inner().text;
        let bare = client.decode(decode(true)).await.unwrap().into_inner().text;
        assert!(whole.contains(&bare) && whole.contains("[CLS]") && !bare.contains("[CLS]"), "{whole} {bare}");

        let info = InfoClient::new(channel(&server).await).info(InfoRequest {}).await.unwrap().into_inner();
        assert_eq!((info.model_id.as_str(), info.model_type()), ("tiny_bert", ModelType::Embedding));
        assert_eq!(info.max_input_length as usize, embedder.max_tokens());
    });
}

#[test]
fn models_of_other_tasks_answer_on_their_services() {
    let (reranker, classifier, sparse) =
        (TaskGolden::load("tiny_reranker"), TaskGolden::load("tiny_classifier"), TaskGolden::load("tiny_splade"));
    let models = vec![task(&classifier, "c"), task(&reranker, "r"), task(&sparse, "s")];
    let server = running(Settings { models, ..settings() });
    let query = "how do plants eat";
    let texts = ["interest rates rose", "by photosynthesis", "a cat"].map(str::to_owned);
    let wanted = Reranker::with_config(of_task(&reranker)).unwrap().rerank(query, &texts, None).unwrap();
    server.block_on(async {
        let mut client = RerankClient::new(channel(&server).await);
        let request = RerankRequest {
            query: query.to_owned(),
            texts: texts.to_vec(),
            truncate: true,
            return_text: true,
            ..RerankRequest::default()
        };
        let ranks = client.rerank(request).await.unwrap().into_inner().ranks;
        assert_eq!(ranks.len(), 3);
        for (rank, wanted) in ranks.iter().zip(&wanted) {
            assert_eq!((rank.index as usize, rank.score.to_bits()), (wanted.index, wanted.score.to_bits()));
            assert_eq!(rank.text(), texts[wanted.index]);
        }
        // What the first message says of the answer holds for all.
        let messages = texts.clone().into_iter().enumerate().map(move |(i, text)| RerankStreamRequest {
            query: query.to_owned(),
            text,
            truncate: true,
            return_text: i == 0,
            ..RerankStreamRequest::default()
        });
        let streamed = client.rerank_stream(stream::iter(messages)).await.unwrap().into_inner();
        assert_eq!(streamed.ranks, ranks);
        let none = client.rerank_stream(stream::empty()).await.unwrap_err();
        assert_eq!(none.code(), Code::InvalidArgument);

        let mut client = PredictClient::new(channel(&server).await);
        let request = PredictRequest { inputs: "a cat".to_owned(), truncate: true, ..PredictRequest::default() };
        let found = client.predict(request).await.unwrap().into_inner().predictions;
        let wanted = Classifier::with_config(of_task(&classifier)).unwrap().classify("a cat").unwrap();
        assert_eq!(found.len(), wanted.len());
        for (found, wanted) in found.iter().zip(&wanted) {
            assert_eq!((&found.label, found.score.to_bits()), (&wanted.label, wanted.score.to_bits()));
        }
        let mut request = Request::new(PredictPairRequest {
            inputs: vec![query.to_owned(), texts[1].clone()],
            truncate: true,
            ..PredictPairRequest::default()
        });
        request.metadata_mut().insert("x-embral-model", "r".parse().unwrap());
        let pair = client.predict_pair(request).await.unwrap().into_inner().predictions;
        let ranked = ranks.iter().find(|rank| rank.index == 1).unwrap();
        assert_eq!((pair.len(), pair[0].score.to_bits()), (1, ranked.score.to_bits()));

        let mut client = EmbedClient::new(channel(&server).await);
        let request =
            EmbedSparseRequest { inputs: TEXTS[0].to_owned(), truncate: true, ..EmbedSparseRequest::default() };
        let terms = client.embed_sparse(request).await.unwrap().into_inner().sparse_embeddings;
        let wanted = SparseEmbedder::with_config(of_task(&sparse)).unwrap().embed(TEXTS[0]).unwrap();
        let terms: Vec<(u32, u32)> = terms.iter().map(|term| (term.index, term.value.to_bits())).collect();
        let wanted: Vec<(u32, u32)> =
            wanted.ids.iter().zip(&wanted.weights).map(|(&id, weight)| (id, weight.to_bits())).collect();
        assert_eq!(terms, wanted);
    });
}

#[test]
fn failures_are_statuses() {
    let models = vec![golden("tiny_bert")];
    let server = running(Settings { models, body_limit: Some("64KiB".to_owned()), ..settings() });
    server.block_on(async {
        let channel = channel(&server).await;
        let mut client = EmbedClient::new(channel.clone());
        let long = "word ".repeat(3000);
        for (request, code, told) in [
            (EmbedRequest { truncate: false, ..embed(&long) }, Code::InvalidArgument, "tokens"),
            (embed(""), Code::InvalidArgument, "empty"),
            (EmbedRequest { prompt_name: Some("none".into()), ..embed("a") }, Code::InvalidArgument, "prompt"),
            (EmbedRequest { dimensions: Some(0), ..embed("a") }, Code::InvalidArgument, "dimensions"),
            (embed(&"x".repeat(1 << 20)), Code::OutOfRange, "too large"),
        ] {
            let status = client.embed(request).await.unwrap_err();
            assert!(status.code() == code && status.message().contains(told), "{status}");
        }
        let left = EmbedRequest { truncation_direction: TruncationDirection::Left as i32, ..embed(&long) };
        client.embed(left).await.unwrap();
        let mut other = Request::new(embed("a"));
        other.metadata_mut().insert("x-embral-model", "another".parse().unwrap());
        assert_eq!(client.embed(other).await.unwrap_err().code(), Code::NotFound);
        let sparse = EmbedSparseRequest { inputs: "a".into(), ..EmbedSparseRequest::default() };
        assert_eq!(client.embed_sparse(sparse).await.unwrap_err().code(), Code::FailedPrecondition);
        // One that fails does not end a stream; the others are answered.
        let mixed = stream::iter([embed("a"), embed(""), embed("b")]);
        let codes: Vec<Code> = client
            .embed_stream(mixed)
            .await
            .unwrap()
            .into_inner()
            .map(|answer| answer.map_or_else(|status| status.code(), |_| Code::Ok))
            .collect()
            .await;
        assert_eq!(codes[..2], [Code::Ok, Code::InvalidArgument]);
        let mut late = Request::new(embed("a"));
        late.set_timeout(Duration::from_nanos(1));
        let code = client.embed(late).await.unwrap_err().code();
        assert!(matches!(code, Code::DeadlineExceeded | Code::Cancelled), "{code:?}");
        // Nothing of it is left, and the next is answered.
        client.embed(embed("a")).await.unwrap();
    });
    let metrics = String::from_utf8(server.get("/metrics").body).unwrap();
    assert!(metrics.contains("dialect=\"grpc\""), "{metrics}");
}

#[test]
fn keys_and_rates_hold_here_too() {
    let settings = Settings { api_key: Some("k".to_owned()), requests_per_minute: Some(3), ..settings() };
    let server = running(Settings { models: vec![golden("tiny_bert")], ..settings });
    let keyed = || {
        let mut request = Request::new(embed("a"));
        request.metadata_mut().insert("authorization", "Bearer k".parse().unwrap());
        request
    };
    server.block_on(async {
        let channel = channel(&server).await;
        let mut client = EmbedClient::new(channel.clone());
        assert_eq!(client.embed(embed("a")).await.unwrap_err().code(), Code::Unauthenticated);
        let none = client.embed_stream(stream::iter([embed("a")])).await.unwrap_err();
        assert_eq!(none.code(), Code::Unauthenticated);
        for _ in 0..3 {
            client.embed(keyed()).await.unwrap();
        }
        let status = client.embed(keyed()).await.unwrap_err();
        assert_eq!(status.code(), Code::ResourceExhausted);
        let wait: u64 = status.metadata().get("retry-after").unwrap().to_str().unwrap().parse().unwrap();
        assert!((1..=20).contains(&wait), "{wait}");
        // Health is for everybody.
        let check = HealthClient::new(channel).check(HealthCheckRequest::default()).await.unwrap();
        assert_eq!(check.into_inner().status(), ServingStatus::Serving);
    });
}

#[test]
fn a_server_that_stops_answers_what_it_took_and_ends_its_streams() {
    let mut server = running(Settings { models: vec![golden("tiny_bert")], ..settings() });
    let stopped = server.block_on(async {
        let channel = channel(&server).await;
        let mut health = HealthClient::new(channel.clone());
        let request = |service: &str| HealthCheckRequest { service: service.to_owned() };
        for (service, wanted) in [
            ("", ServingStatus::Serving),
            ("tei.v1.Embed", ServingStatus::Serving),
            ("tei.v1.Rerank", ServingStatus::NotServing),
        ] {
            assert_eq!(health.check(request(service)).await.unwrap().into_inner().status(), wanted, "{service}");
        }
        assert_eq!(health.check(request("another")).await.unwrap_err().code(), Code::NotFound);
        let mut watch = health.watch(request("tei.v1.Embed")).await.unwrap().into_inner();
        assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::Serving);
        // A client that says nothing more and hangs up never.
        let silent = stream::iter([embed("a")]).chain(stream::pending());
        let mut answers = EmbedClient::new(channel).embed_stream(silent).await.unwrap().into_inner();
        answers.message().await.unwrap().unwrap();
        (watch, answers)
    });
    let (mut watch, mut answers) = stopped;
    let wait = server.stopping();
    let done = std::thread::spawn(wait);
    server.block_on(async {
        let end = async {
            while let Ok(Some(_)) = answers.message().await {}
            while let Ok(Some(_)) = watch.message().await {}
        };
        tokio::time::timeout(Duration::from_secs(20), end).await.unwrap();
    });
    done.join().unwrap();
}
