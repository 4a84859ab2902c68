//! What can go wrong in the stages that work with a model.

use std::path::PathBuf;

use bytesize::ByteSize;
use miette::Diagnostic;
use thiserror::Error as ThisError;

/// A failure of a stage: that of the part which failed. The larger ones are boxed, to keep every result small.
#[derive(Debug, ThisError, Diagnostic)]
pub enum Error {
    /// Run folders and files.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Run(#[from] collimate_run::Error),
    /// The data.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Data(Box<collimate_data::Error>),
    /// The engine, and the model, tokenizer and adapter in it.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Engine(Box<collimate_engine::Error>),
    /// The choice of an objective.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Objective(#[from] collimate_objective::Error),
    /// The writing of text.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Generate(Box<collimate_generate::Error>),
    /// The rewards of completions.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Reward(Box<collimate_reward::Error>),
    /// The training loop.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Train(Box<collimate_train::Error>),
    /// All weights are trained, and the model is to be compared with what it was.
    #[error(
        "the weights are trained themselves, so nothing is left of the model that they are compared with"
    )]
    #[diagnostic(help("leave out --full; or, where the method can do without one, the penalty: beta 0"))]
    ReferenceOfWeights,
    /// A setting that this stage cannot do anything with.
    #[error("{name} is of no use here: {reason}")]
    #[diagnostic(help("leave {name} out"))]
    Useless {
        /// Its name.
        name: &'static str,
        /// Why.
        reason: &'static str,
    },
    /// What processes send to each other cannot be timed.
    #[error("how fast processes of this machine speak to each other cannot be measured")]
    #[diagnostic(help("name what connects the workers, or its figures: --network 4GB,10us"))]
    Unmeasured {
        /// Why.
        source: std::io::Error,
    },
    /// Too few prompts for one round of completions.
    #[error("there are {prompts} prompts, and one round of completions takes {wanted}")]
    #[diagnostic(help(
        "give more prompts, or lower per_device_train_batch_size, gradient_accumulation_steps or steps_per_generation"
    ))]
    FewPrompts {
        /// How many there are.
        prompts: usize,
        /// How many are needed.
        wanted: usize,
    },
    /// A training that does not fit into the memory it was allowed.
    #[error("training takes {needed} with these settings, and --memory allows {allowed}", needed = needed.display().si(), allowed = allowed.display().si())]
    #[diagnostic(help(
        "allow more, or lower max_tokens_per_micro_batch or max_length; bfloat16 halves the weights"
    ))]
    Memory {
        /// What it takes, with all that can be computed again.
        needed: ByteSize,
        /// What it may take.
        allowed: ByteSize,
    },
    /// A file that should hold a JSON Schema.
    #[error("{path} is not JSON", path = path.display())]
    #[diagnostic(help("give a JSON Schema, such as {{\"type\": \"object\", \"properties\": …}}"))]
    Schema {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: serde_json::Error,
    },
    /// Two adapters under one name.
    #[error("two adapters are called {name}")]
    #[diagnostic(help("name them apart: --adapter_name_or_path NAME=FOLDER"))]
    SameAdapterName {
        /// The name.
        name: String,
    },
    /// An adapter's folder for a server, which cannot see it.
    #[error("the adapter {folder} cannot be sent to a server", folder = folder.display())]
    #[diagnostic(help(
        "load it there, as vLLM does with --lora-modules NAME=FOLDER, and give its name there: \
         --adapter NAME, or --model_name_or_path NAME"
    ))]
    AdapterOnServer {
        /// The folder.
        folder: PathBuf,
    },
    /// An adapter that gives rewards, and no model for it.
    #[error("the adapter {adapter} does not say on which model it stands", adapter = adapter.display())]
    #[diagnostic(help("give the model it was trained on with --model_name_or_path"))]
    NoBaseModel {
        /// The adapter's folder.
        adapter: PathBuf,
    },
    /// An adapter that gives rewards, and its model is not there.
    #[error("the adapter {adapter} stands on {named}, which is neither here nor in the cache", adapter = adapter.display(), named = named.display())]
    #[diagnostic(help(
        "type `collimate model fetch {named}` if that is its id on the Hub, or give the model with --model_name_or_path",
        named = named.display()
    ))]
    BaseModelMissing {
        /// The adapter's folder.
        adapter: PathBuf,
        /// The model that it names.
        named: PathBuf,
    },
    /// What only a model in the memory can say, asked of a server.
    #[error("a server does not say how likely a given text is")]
    #[diagnostic(help("leave out base_url and give the model's folder or its GGUF file"))]
    NotInMemory,
    /// Files of judgements that do not stand side by side.
    #[error("{path} is not as `judge tidy` leaves it: {reason}", path = path.display())]
    #[diagnostic(help("run `collimate judge tidy` on the samples and the hints, and give its folder"))]
    Untidy {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        reason: String,
    },
    /// Prompts that are not those which were judged.
    #[error("{path} does not hold what was judged: {reason}", path = path.display())]
    #[diagnostic(help(
        "give the prompts that `judge sample` and `judge hint` were given; a column split, if there is one, \
         holds train or validation in every row"
    ))]
    OtherPrompts {
        /// The file.
        path: PathBuf,
        /// Which prompt, and what is wrong with it.
        reason: String,
    },
    /// Nothing to answer.
    #[error("no prompt is given")]
    #[diagnostic(help("give --prompts FILE, --prompts - for standard input, or --prompt TEXT"))]
    NoPrompts,
    /// A row that cannot be answered, where none may be left out or no other is answered.
    #[error("{row}")]
    #[diagnostic(help("{hint}"))]
    Unanswerable {
        /// Where it stands, and why.
        row: String,
        /// What to do about it.
        hint: String,
    },
    /// A server failed at some prompts for now.
    #[error("prompts without an answer so far: {count}")]
    #[diagnostic(help(
        "what was answered is kept: run the same command again later, and it asks only for the rest"
    ))]
    Unanswered {
        /// How many.
        count: usize,
        /// Why the first of them has none.
        #[source]
        first: Box<collimate_generate::Error>,
    },
    /// A template of the judge pipeline.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Template(#[from] Box<collimate_judge::TemplateError>),
    /// Settings that would have no effect.
    #[error("{what} is {choice}, which heeds no {settings}", settings = settings.join(", "))]
    #[diagnostic(help("leave out what is not heeded; or choose {by}"))]
    Unheeded {
        /// What was chosen.
        what: String,
        /// As which.
        choice: &'static str,
        /// The settings that choose it.
        by: &'static str,
        /// The names of the settings; one or more.
        settings: Vec<&'static str>,
    },
    /// No server and no model for a translation.
    #[error("OpenAI is to be asked for {model}, and there is no key")]
    #[diagnostic(help(
        "set OPENAI_API_KEY in the environment or in a file .env; or give --base_url for another server; or, for the \
         built-in engine, the path of a model's folder or GGUF file as --model_name_or_path"
    ))]
    NoTranslator {
        /// The model as it was given.
        model: String,
    },
    /// A merge of nothing.
    #[error("no adapter is given to merge")]
    #[diagnostic(help(
        "give --adapter_name_or_path FOLDER; `collimate model export` writes a model in another form as it is"
    ))]
    NothingToMerge,
    /// An adapter alone is wanted, and it is none or several.
    #[error("one adapter is written by itself, and {adapters} are given")]
    #[diagnostic(help("give --adapter_name_or_path once; `--format gguf` merges any number into the model"))]
    NotOneAdapter {
        /// How many.
        adapters: usize,
    },
    /// Weights that are not one for each adapter.
    #[error("there are {adapters} adapters and {weights} weights")]
    #[diagnostic(help(
        "give one number in --adapter_weights for each --adapter_name_or_path, or none at all"
    ))]
    AdapterWeights {
        /// How many adapters.
        adapters: usize,
        /// How many weights.
        weights: usize,
    },
    /// A weight of an adapter that is no number.
    #[error("an adapter cannot have the weight {weight}")]
    #[diagnostic(help("give finite numbers in --adapter_weights"))]
    AdapterWeight {
        /// The weight.
        weight: f32,
    },
    /// Two adapters of which each brings the same module whole: a head, or the embedding.
    #[error("{first} and {second} both bring `{module}`, and a model has one", first = first.display(), second = second.display())]
    #[diagnostic(help("merge one of them alone"))]
    TwoWhole {
        /// The module's name.
        module: &'static str,
        /// The one adapter's folder.
        first: PathBuf,
        /// The other's.
        second: PathBuf,
    },
    /// A weight that is infinite or no number.
    #[error("`{name}` would hold numbers that are not finite: {reason}")]
    #[diagnostic(help(
        "write in float32 or bfloat16 if they are too large; give an earlier checkpoint if a training diverged"
    ))]
    NotFinite {
        /// The tensor.
        name: String,
        /// Where they come from.
        reason: &'static str,
    },
}

impl From<collimate_data::Error> for Error {
    fn from(error: collimate_data::Error) -> Self {
        Self::Data(Box::new(error))
    }
}

impl From<collimate_model::Error> for Error {
    fn from(error: collimate_model::Error) -> Self {
        collimate_engine::Error::from(error).into()
    }
}

impl From<collimate_engine::Error> for Error {
    fn from(error: collimate_engine::Error) -> Self {
        Self::Engine(Box::new(error))
    }
}

impl From<collimate_generate::Error> for Error {
    fn from(error: collimate_generate::Error) -> Self {
        Self::Generate(Box::new(error))
    }
}

impl From<collimate_reward::Error> for Error {
    fn from(error: collimate_reward::Error) -> Self {
        Self::Reward(Box::new(error))
    }
}

impl From<collimate_train::Error> for Error {
    fn from(error: collimate_train::Error) -> Self {
        Self::Train(Box::new(error))
    }
}
