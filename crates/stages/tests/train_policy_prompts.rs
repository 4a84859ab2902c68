//! On-policy trainings and what they are given: prompts with room or without, held out or of no use, and settings.

use crate::common::policy::{Place, flag};
use crate::common::warned;
use collimate_stages::train::policy::{grpo, online_dpo, ppo, rloo};
use serde_json::{Value, json};

const REWARD: &str = "--reward_funcs=length:20-";

/// One example a micro-batch, of some of which nothing is left.
#[test]
fn of_completions_that_were_cut_nothing_is_learnt() {
    let place = Place::new();
    let mask = [REWARD, "--mask_truncated_completions", "--max_tokens_per_micro_batch=1"];
    let all_cut = [&mask[..], &["--min_new_tokens=8"]].concat();
    place.run::<grpo::Config>("untouched", &[REWARD, "--learning_rate=0", "--max_steps=1"]);
    place.run::<grpo::Config>("grpo", &[&all_cut[..], &["--beta=0.1"]].concat());
    place.run::<rloo::Config>("rloo", &[&all_cut[..], &["--num_iterations=2"]].concat());
    for name in ["grpo", "rloo"] {
        assert_eq!(place.metrics(name, 3)["completions/clipped_ratio"], 1.0);
        assert!(place.lora(name).values == place.lora("untouched").values, "{name}");
    }
    let some_cut = ["--num_generations=2", "--max_completion_length=200", "--temperature=1"];
    for kind in ["dapo", "grpo", "dr_grpo"] {
        let kind = format!("--loss_type={kind}");
        place.run::<grpo::Config>(&kind, &[&mask[..], &some_cut, &[&kind, "--beta=0.1"]].concat());
        let shares = place.logged(&kind, "completions/clipped_ratio");
        assert!(shares.iter().all(|&share| 0.0 < share && share < 1.0), "{shares:?}");
        let groups: Vec<Vec<Value>> = (1..=4)
            .flat_map(|step| place.completions(&kind, step).chunks(2).map(<[_]>::to_vec).collect::<Vec<_>>())
            .collect();
        let all_cut = |group: &Vec<Value>| group.iter().all(|row| row["finish_reason"] == "length");
        assert!(groups.iter().any(all_cut) && !groups.iter().all(all_cut));
        assert!(place.lora(&kind).values != place.lora("untouched").values);
    }
}

#[cfg(unix)]
#[test]
fn filtered_groups_make_way_for_other_prompts() {
    let place = Place::new();
    let filter = ["--filter_groups", "--max_num_gen_batches=8", "--max_steps=1", "--num_generations=2"];
    // Of sixteen prompts one is worth asking, and a step takes four.
    let script = place.path("reward.sh");
    let text = "sed -u -e 's/.*\"completion\":\"\\([^\"]*\\)\".*\"useful\":true.*/\\1/' -e t -e 's/.*//' | \
                while read -r line; do echo \"{\\\"reward\\\": ${#line}}\"; done";
    collimate_run::atomic::write(&script, text.as_bytes()).unwrap();
    let reward = format!("--reward_funcs=program:sh {}", script.display());
    place.run::<grpo::Config>("filtered", &[&filter[..], &[reward.as_str()]].concat());
    let drawn = place.completions("filtered", 1);
    assert_eq!(drawn.len(), 64);
    assert_eq!(place.metrics("filtered", 1)["frac_reward_zero_std"], 15.0 / 16.0);
    // What one round of it teaches, it teaches once however many steps the round has.
    let more = [
        &filter[..],
        &[reward.as_str(), "--max_steps=2", "--steps_per_generation=2", "--max_num_gen_batches=2"],
    ]
    .concat();
    place.run::<grpo::Config>("sparse", &more);
    let norms = place.logged("sparse", "grad_norm");
    assert_eq!(norms.iter().filter(|&&norm| norm > 0.0).count(), 1, "{norms:?}");
    let same = [&filter[..], &["--reward_funcs=length:0-"]].concat();
    let (summary, warnings) = warned(&place.train::<grpo::Config>("same", &same, None));
    assert!(warnings.iter().any(|warning| warning.contains("all worth the same")), "{warnings:?}");
    assert_eq!((summary.steps, place.completions("same", 1).len()), (1, 64));
    let none = [&filter[..], &[REWARD, "--max_num_gen_batches=0"]].concat();
    assert!(place.refused::<grpo::Config>("none", &none).contains("max_num_gen_batches"));
}

#[test]
fn prompts_held_out_are_rewarded_before_and_after() {
    let place = Place::new();
    let held_out = flag("eval_dataset", &place.path("held_out.jsonl"));
    let more = [REWARD, &held_out, "--eval_steps=2", "--load_best_model_at_end", "--learning_rate=0.1"];
    let summary = place.run::<ppo::Config>("out", &more);
    let rewards = place.logged("out", "eval_reward");
    let losses = place.logged("out", "eval_loss");
    assert_eq!((rewards.len(), summary.eval_prompts), (3, 6));
    assert!(rewards.iter().zip(&losses).all(|(reward, loss)| (reward + loss).abs() < 1e-12));
    assert_eq!(summary.eval_reward_before, Some(rewards[0]));
    let best = if rewards[2] > rewards[1] { 4 } else { 2 };
    assert_eq!(
        (summary.best_step, summary.eval_reward_after),
        (Some(best), Some(-losses[best as usize / 2]))
    );
    let (result, checkpoint) = (place.lora("out"), place.lora(&format!("out/checkpoint-{best}")));
    assert!(result.score.is_none() && checkpoint.without_score() == result);
    // They are asked under keys of their own, the same each time.
    place.run::<grpo::Config>("same", &[REWARD, &held_out, "--eval_steps=2", "--learning_rate=0"]);
    let rewards = place.logged("same", "eval_reward");
    assert!(rewards.iter().all(|reward| *reward == rewards[0]), "{rewards:?}");
}

#[test]
fn a_prompt_that_leaves_no_room_is_set_aside() {
    let place = Place::new();
    let long = json!({ "prompt": "count ".repeat(400) });
    place.write("long.jsonl", place.rows("prompts.jsonl").into_iter().chain([long]));
    let long = flag("dataset", &place.path("long.jsonl"));
    let summary = place.run::<grpo::Config>("out", &[REWARD, &long, "--max_steps=1"]);
    assert_eq!((summary.prompts, summary.rejected), (16, 1));
    let rejects = place.rows("out/rejects.jsonl");
    assert!(rejects[0]["reason"].as_str().unwrap().contains("leave room for a completion"), "{rejects:?}");
    let longest = [REWARD, "--max_completion_length=512"];
    let said = place.refused::<grpo::Config>("none", &longest);
    assert!(said.contains("all 16 rows are bad"), "{said}");
    let said = place.refused::<grpo::Config>("strict", &[REWARD, &long, "--strict"]);
    assert!(said.contains("leave room for a completion"), "{said}");
}

#[test]
fn what_cannot_be_learnt_from_is_refused() {
    let place = Place::new();
    let refused = [
        place.refused::<grpo::Config>("full", &[REWARD, "--full", "--beta=0.1"]),
        place.refused::<rloo::Config>("full_rloo", &[REWARD, "--full"]),
        place.refused::<ppo::Config>("full_ppo", &[REWARD, "--full"]),
        place.refused::<grpo::Config>("batch", &[REWARD, "--num_generations=3"]),
        place.refused::<grpo::Config>("few", &[REWARD, "--steps_per_generation=9"]),
        place.refused::<grpo::Config>("alone", &[REWARD, "--num_generations=1"]),
        place.refused::<rloo::Config>("alone_rloo", &[REWARD, "--num_generations=1"]),
        place.refused::<online_dpo::Config>("alone_dpo", &[REWARD, "--num_generations=1"]),
    ];
    insta::assert_snapshot!(refused.join("\n"), @"
    the weights are trained themselves, so nothing is left of the model that they are compared with
    the weights are trained themselves, so nothing is left of the model that they are compared with
    full is of no use here: the value head stands beside an adapter
    the setting per_device_train_batch_size × gradient_accumulation_steps is 8, which is not a multiple of the completions of a prompt (num_generations)
    there are 16 prompts, and one round of completions takes 18
    the setting num_generations is 1, which is not 2 or more
    the setting num_generations is 1, which is not 2 or more
    the setting num_generations is 1, which is not 2 or more
    ");
    // Without a reference all weights may learn.
    let summary = place.run::<grpo::Config>("whole", &[REWARD, "--full", "--learning_rate=0.001"]);
    assert!(summary.trainable_parameters > 50_000);
}
