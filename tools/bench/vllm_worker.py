"""vLLM as a process that answers prompts: run by the interpreter that has vLLM, which has no Fairloop.

The first line of the standard input says how to load the model, every further one what to write, or to empty the prefix
cache; the answers are lines of JSON. What vLLM prints goes to the error stream.
"""

import json
import os
import sys


def main() -> None:
    """Load the model, and answer lines until there are none."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    from vllm import LLM, SamplingParams

    engine = LLM(**json.loads(sys.stdin.readline()))
    print(json.dumps("ready"), file=answers)
    for line in sys.stdin:
        asked = json.loads(line)
        if asked.get("forget"):
            engine.reset_prefix_cache()
            print(json.dumps("forgotten"), file=answers)
            continue
        prompts = [{"prompt_token_ids": ids} for ids in asked["prompts"]]
        sampling = [SamplingParams(**asked["sampling"], seed=seed) for seed in asked["seeds"]]
        outputs = engine.generate(prompts, sampling, use_tqdm=False)
        print(json.dumps([list(output.outputs[0].token_ids) for output in outputs]), file=answers)


if __name__ == "__main__":
    main()
