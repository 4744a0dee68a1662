"""Complete a text and fill in before a suffix, with the openai client and a running server.

serve run deployments.app:build_app model=embedded
python -m examples.complete [http://127.0.0.1:8000/v1]
"""

from __future__ import annotations

import sys

from openai import OpenAI


def main(base_url: str = "http://127.0.0.1:8000/v1") -> None:
    """A completion, a suffix, and the first one again by its seed."""
    client = OpenAI(base_url=base_url, api_key="none")
    model = client.models.list().data[0].id

    first = client.completions.create(
        model=model,
        prompt="S:1034/0402/2100/4021=",
        max_tokens=24,
        temperature=0.7,
        extra_body={"diffusion": {"steps": 16}},
    )
    print(first.choices[0].text, first.usage)

    between = client.completions.create(
        model=model, prompt="S:1234/", suffix="/2143/4321", max_tokens=4
    )
    print(between.choices[0].text)

    said = (first.choices[0].model_extra or {})["diffusion"]
    again = client.completions.create(
        model=model,
        prompt="S:1034/0402/2100/4021=",
        max_tokens=24,
        temperature=0.7,
        seed=said["seed"],
        extra_body={"diffusion": {"steps": 16}},
    )
    print("the same text again:", again.choices[0].text == first.choices[0].text)


if __name__ == "__main__":
    main(*sys.argv[1:])
