//! Sequence classifiers: the layers from a pooled row to logits, the labels, and how logits become scores.

use super::beside;
use crate::config::{Config, brief, malformed, unsupported};
use embral_types::{Activation, Pooling, Result};

use std::path::Path;

/// The most labels; real models have up to a few thousand.
const MOST_LABELS: usize = 100_000;

/// What stands between the token rows and the scores.
#[derive(Clone, Debug, PartialEq)]
pub struct ClassifierSpec {
    /// How token rows become the row that the layers take.
    pub pooling: Pooling,
    /// The layers over that row, in order.
    pub layers: Vec<HeadLayer>,
    /// The name of each logit.
    pub labels: Vec<String>,
    /// How a cross-encoder of sentence-transformers makes scores of logits: what the folder states, else the sigmoid of one label,
    /// and the logits of several.
    pub reranking: Scores,
    /// How the text classification of transformers makes scores of logits: what the configuration states, else by its
    /// `problem_type`, else the sigmoid of one label, and the softmax of several.
    pub classification: Scores,
}

/// One layer of a head. Its tensors are `NAME.weight` and, where the file has it, `NAME.bias`.
#[derive(Clone, Debug, PartialEq)]
pub enum HeadLayer {
    /// `activation(x Wᵀ + b)`.
    Dense {
        /// The name of its tensors.
        name: &'static str,
        /// The function after it.
        activation: Activation,
    },
    /// A layer norm.
    Norm {
        /// The name of its tensors.
        name: &'static str,
        /// What is added under the root.
        eps: f32,
    },
}

/// How logits become scores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scores {
    /// As they are.
    Logits,
    /// `1 / (1 + exp(-x))` of each.
    Sigmoid,
    /// `exp(x) / Σ exp(x)` over the labels.
    Softmax,
}

/// Where the head of a class is.
struct Row {
    /// What stands before `ForSequenceClassification` in `architectures`.
    classes: &'static [&'static str],
    pooling: Pooling,
    /// Names, each with its function.
    layers: &'static [(&'static str, Function)],
}

#[derive(Clone, Copy)]
enum Function {
    Fixed(Activation),
    /// Stated under this key, GELU where it is not.
    Stated(&'static str),
    /// A layer norm and no function.
    Norm,
}

use Function::{Fixed, Norm, Stated};

const ROWS: &[Row] = &[
    Row {
        classes: &["Bert", "JinaBert"],
        pooling: Pooling::Cls,
        layers: &[("bert.pooler.dense", Fixed(Activation::Tanh)), ("classifier", Fixed(Activation::Identity))],
    },
    Row {
        classes: &["Roberta", "XLMRoberta", "Camembert", "MPNet"],
        pooling: Pooling::Cls,
        layers: &[("classifier.dense", Fixed(Activation::Tanh)), ("classifier.out_proj", Fixed(Activation::Identity))],
    },
    Row {
        classes: &["DistilBert"],
        pooling: Pooling::Cls,
        layers: &[("pre_classifier", Fixed(Activation::Relu)), ("classifier", Fixed(Activation::Identity))],
    },
    Row {
        classes: &["DebertaV2"],
        pooling: Pooling::Cls,
        layers: &[("pooler.dense", Stated("pooler_hidden_act")), ("classifier", Fixed(Activation::Identity))],
    },
    Row {
        classes: &["ModernBert"],
        pooling: Pooling::Cls,
        layers: &[
            ("head.dense", Stated("classifier_activation")),
            ("head.norm", Norm),
            ("classifier", Fixed(Activation::Identity)),
        ],
    },
    Row {
        classes: &["New"],
        pooling: Pooling::Cls,
        layers: &[("new.pooler.dense", Fixed(Activation::Tanh)), ("classifier", Fixed(Activation::Identity))],
    },
    Row {
        classes: &["Qwen2", "Qwen3", "Llama", "Mistral", "Gemma", "Gemma2"],
        pooling: Pooling::Last,
        layers: &[("score", Fixed(Activation::Identity))],
    },
];

/// The classifier of a `config.json` whose class is `class`.
pub(super) fn read(class: &str, config: Config<'_>, root: &Path) -> Result<ClassifierSpec> {
    let family = class.strip_suffix("ForSequenceClassification").unwrap_or_default();
    let row = ROWS.iter().find(|row| row.classes.contains(&family)).ok_or_else(|| {
        let known = ROWS.iter().flat_map(|row| row.classes).copied().collect::<Vec<_>>().join(", ");
        unsupported(format!(
            "architectures: expected ForSequenceClassification of one of {known}, found {class:?}: the place of its head is not known"
        ))
    })?;
    let pooling = match config.text("classifier_pooling")? {
        Some("mean") if family == "ModernBert" => Pooling::Mean,
        _ => row.pooling,
    };
    let layer = |&(name, function): &(&'static str, Function)| {
        Ok(match function {
            Fixed(activation) => HeadLayer::Dense { name, activation },
            Stated(key) => HeadLayer::Dense { name, activation: config.activation(key, Activation::GeluErf)? },
            Norm => HeadLayer::Norm { name, eps: config.positive_or("norm_eps", 1e-5)? },
        })
    };
    let labels = labels(config)?;
    let one = labels.len() == 1;
    let stated = stated(config, root)?;
    let problem = match config.text("problem_type")? {
        Some("regression") => Scores::Logits,
        Some("multi_label_classification") => Scores::Sigmoid,
        Some("single_label_classification") if !one => Scores::Softmax,
        _ if one => Scores::Sigmoid,
        _ => Scores::Softmax,
    };
    Ok(ClassifierSpec {
        pooling,
        layers: row.layers.iter().map(layer).collect::<Result<_>>()?,
        reranking: stated.unwrap_or(if one { Scores::Sigmoid } else { Scores::Logits }),
        classification: match config.text("function_to_apply")? {
            None => problem,
            Some("none") => Scores::Logits,
            Some("sigmoid") => Scores::Sigmoid,
            Some("softmax") => Scores::Softmax,
            Some(other) => {
                return Err(unsupported(format!(
                    "function_to_apply: expected none, sigmoid or softmax, found {other:?}"
                )));
            }
        },
        labels,
    })
}

/// `id2label`, whose keys are the numbers of the logits; `LABEL_i` for two labels where it is not there, as in transformers.
fn labels(config: Config<'_>) -> Result<Vec<String>> {
    let Some(named) = config.object("id2label")? else {
        let count = config.number_or("num_labels", 2, 1..=MOST_LABELS)?;
        return Ok((0..count).map(|i| format!("LABEL_{i}")).collect());
    };
    let mut labels = Vec::new();
    for (key, value) in named.entries() {
        let (Ok(index), Some(label)) = (key.parse::<usize>(), value.as_str()) else {
            return Err(malformed(format!("id2label: expected a number and a name, found {key:?}: {}", brief(value))));
        };
        labels.push((index, label.to_owned()));
    }
    labels.sort();
    if labels.is_empty() || labels.len() > MOST_LABELS || labels.iter().enumerate().any(|(at, (index, _))| at != *index)
    {
        return Err(malformed(format!("id2label: expected names for the numbers from 0 on, found {}", labels.len())));
    }
    Ok(labels.into_iter().map(|(_, label)| label).collect())
}

/// The activation that sentence-transformers wrote, in any of the three places where its versions did.
fn stated(config: Config<'_>, root: &Path) -> Result<Option<Scores>> {
    let file = beside(root, "config_sentence_transformers.json")?;
    let newest = match &file {
        Some(value) => Config::of(value)?.text("activation_fn")?,
        None => None,
    };
    let newer = match config.object("sentence_transformers")? {
        Some(object) => object.text("activation_fn")?,
        None => None,
    };
    let path = match newest.or(newer) {
        Some(path) => Some(path),
        None => config.text("sbert_ce_default_activation_function")?,
    };
    path.map(scores).transpose()
}

/// The Python path of a class of `torch.nn`, such as `torch.nn.modules.linear.Identity`.
fn scores(path: &str) -> Result<Scores> {
    match path.strip_prefix("torch.nn.").and_then(|path| path.rsplit('.').next()) {
        Some("Identity") => Ok(Scores::Logits),
        Some("Sigmoid") => Ok(Scores::Sigmoid),
        Some("Softmax") => Ok(Scores::Softmax),
        _ => Err(unsupported(format!(
            "activation_fn: expected Identity, Sigmoid or Softmax of torch.nn, found {path:?}"
        ))),
    }
}

impl Scores {
    /// The scores of one row of logits, in place.
    pub fn apply(self, logits: &mut [f32]) {
        match self {
            Self::Logits => {}
            Self::Sigmoid => logits.iter_mut().for_each(|x| *x = 1.0 / (1.0 + (-*x).exp())),
            Self::Softmax => {
                let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                logits.iter_mut().for_each(|x| *x = (*x - largest).exp());
                let sum: f32 = logits.iter().sum();
                logits.iter_mut().for_each(|x| *x /= sum);
            }
        }
    }

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Logits => "logits",
            Self::Sigmoid => "sigmoid",
            Self::Softmax => "softmax",
        }
    }
}

impl std::str::FromStr for Scores {
    type Err = embral_types::Error;

    fn from_str(name: &str) -> Result<Self> {
        [Self::Logits, Self::Sigmoid, Self::Softmax].into_iter().find(|s| s.name() == name).ok_or_else(|| {
            let message = format!("unknown scores {name:?}: expected logits, sigmoid or softmax");
            embral_types::Error::new(embral_types::ErrorKind::InvalidInput, message)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn spec(config: &Value, files: &[(&str, Value)]) -> Result<ClassifierSpec> {
        let folder = tempfile::tempdir().unwrap();
        for (name, value) in files {
            std::fs::write(folder.path().join(name), value.to_string()).unwrap();
        }
        read(config["architectures"][0].as_str().unwrap(), Config::of(config)?, folder.path())
    }

    fn bert(more: &Value) -> Value {
        let mut config = json!({"architectures": ["BertForSequenceClassification"], "id2label": {"0": "x"}});
        config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        config
    }

    #[test]
    fn the_activation_is_what_is_stated_else_by_labels_and_problem() {
        let three = json!({"id2label": {"1": "b", "0": "a", "2": "c"}});
        let identity = "torch.nn.modules.linear.Identity";
        let with = |mut value: Value, key: &str, to: Value| {
            value[key] = to;
            value
        };
        use Scores::{Logits, Sigmoid, Softmax};
        for (config, reranking, classification) in [
            (json!({}), Sigmoid, Sigmoid),
            (three.clone(), Logits, Softmax),
            (json!({"sentence_transformers": {"activation_fn": identity}}), Logits, Sigmoid),
            (json!({"sbert_ce_default_activation_function": identity}), Logits, Sigmoid),
            (json!({"problem_type": "regression"}), Sigmoid, Logits),
            (with(three.clone(), "problem_type", json!("multi_label_classification")), Logits, Sigmoid),
            (with(three.clone(), "function_to_apply", json!("none")), Logits, Logits),
        ] {
            let spec = spec(&bert(&config), &[]).unwrap();
            assert_eq!((spec.reranking, spec.classification), (reranking, classification), "{config}");
        }
        let newest =
            [("config_sentence_transformers.json", json!({"activation_fn": "torch.nn.modules.activation.Sigmoid"}))];
        let older = bert(&json!({"sentence_transformers": {"activation_fn": identity}}));
        assert_eq!(spec(&older, &newest).unwrap().reranking, Sigmoid);
        assert_eq!(spec(&bert(&three), &[]).unwrap().labels, ["a", "b", "c"]);
    }

    #[test]
    fn heads_are_found_by_class_and_others_refused_by_name() {
        let names = |class: &str| -> Result<String> {
            let config = json!({"architectures": [format!("{class}ForSequenceClassification")]});
            let spec = spec(&config, &[])?;
            assert_eq!(spec.labels, ["LABEL_0", "LABEL_1"]);
            let name = |layer: &HeadLayer| match layer {
                HeadLayer::Dense { name, .. } | HeadLayer::Norm { name, .. } => *name,
            };
            Ok(spec.layers.iter().map(name).collect::<Vec<_>>().join(" "))
        };
        assert_eq!(names("Bert").unwrap(), "bert.pooler.dense classifier");
        assert_eq!(names("XLMRoberta").unwrap(), "classifier.dense classifier.out_proj");
        assert_eq!(names("DistilBert").unwrap(), "pre_classifier classifier");
        assert_eq!(names("ModernBert").unwrap(), "head.dense head.norm classifier");
        assert_eq!(names("Qwen3").unwrap(), "score");
        let error = names("Funnel").unwrap_err().to_string();
        assert!(error.contains("FunnelForSequenceClassification") && error.contains("DistilBert"), "{error}");
        for (key, value, expected) in [
            ("id2label", json!({"0": "a", "2": "b"}), "numbers from 0 on"),
            ("id2label", json!({"x": "a"}), "found \"x\""),
            ("id2label", json!({}), "found 0"),
            ("sbert_ce_default_activation_function", json!("my.Own"), "found \"my.Own\""),
            ("function_to_apply", json!("relu"), "found \"relu\""),
        ] {
            let error = spec(&bert(&json!({key: value})), &[]).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn scores_are_the_functions_they_are_named_for() {
        let mut logits = [1.0, -2.0, 0.5];
        Scores::Softmax.apply(&mut logits);
        let sum: f64 = [1f64, -2.0, 0.5].iter().map(|x| x.exp()).sum();
        for (found, x) in logits.iter().zip([1f64, -2.0, 0.5]) {
            assert!((f64::from(*found) - x.exp() / sum).abs() < 1e-7);
        }
        let mut one = [800.0, -800.0, 0.0];
        Scores::Sigmoid.apply(&mut one);
        assert_eq!(one, [1.0, 0.0, 0.5]);
        for scores in [Scores::Logits, Scores::Sigmoid, Scores::Softmax] {
            assert_eq!(scores.name().parse::<Scores>().unwrap(), scores);
        }
        assert!("raw".parse::<Scores>().unwrap_err().to_string().contains("softmax"));
    }
}
