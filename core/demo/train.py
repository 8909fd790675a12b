"""Train the demo model from nothing: `python -m core.demo.train --out RUN`.

The stages, each skipped when its result is already in the run's folder:

1. scenes      draw captioned pictures                                      scenes.npz
2. vae         an AutoencoderKL, 64x64x3 pixels to 16x16x4 latents          vae.pt
3. latents     encode every picture once                                    latents.pt
4. decoder     the autoencoder's second half alone, for sharp outlines      decoder.pt
5. unet        the UNet and both text encoders together, v-prediction       unet.pt
6. export      the averaged weights as a float16 pipeline folder            core/demo/model
7. judge       200 held-out captions, 20 steps; the figure goes into the model's README.md

Stop it anywhere and run it again: it goes on from the last checkpoint, with the very batches an
undisturbed run would have seen, for every step seeds its own generator. Several processes share
the UNet's batches (two of one thread are faster than one of two):

    OMP_NUM_THREADS=1 torchrun --nproc-per-node 2 -m core.demo.train --out RUN
"""

import argparse
import copy
import math
import os
import random
import shutil
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from diffusers import AutoencoderKL, StableDiffusionXLPipeline
from torch import Tensor
from torch.nn.functional import l1_loss, max_pool2d, mse_loss

from . import MODEL_DIR, scenes
from .architecture import TOKENS, build_pipeline
from .card import write_card

VAE_BATCH = 16
PROBE = 256  # scenes kept from the autoencoder's training, to measure it
UNCONDITIONAL = 0.1  # the share of captions replaced by zeros, for guidance
TRAINED = ("vae", "unet", "text_encoder", "text_encoder_2")


@dataclass(frozen=True)
class Run:
    """What the command line asked for."""

    out: Path
    export: Path
    device: torch.device
    seed: int
    scenes: int
    vae_steps: int
    decoder_steps: int
    steps: int
    batch: int
    rate: float
    minutes: float
    export_every: int
    rank: int = 0  # of this process
    ranks: int = 1  # processes that share each batch of the UNet's training


def say(text: str) -> None:
    """Print one line with the time of day."""
    print(time.strftime("%H:%M:%S"), text, flush=True)


def save_atomically(value: object, path: Path) -> None:
    """Write `value` with torch.save; a reader sees the old file or the new one, never a part."""
    scratch = path.with_suffix(f".{os.getpid()}")
    torch.save(value, scratch)
    os.replace(scratch, path)


def drawn_scenes(run: Run) -> tuple[Tensor, list[str]]:
    """Return pictures (n, 3, 64, 64) uint8 and their captions, all of the training split."""
    path = run.out / "scenes.npz"
    if not path.exists():
        rng = random.Random(run.seed)
        images: list[np.ndarray[Any, Any]] = []
        captions: list[str] = []
        while len(captions) < run.scenes:
            scene = scenes.random_scene(rng)
            text = scenes.caption(scene)
            if not scenes.held_out(text):
                captions.append(text)
                images.append(np.asarray(scenes.draw(scene, rng)))
        scratch = path.with_suffix(f".{os.getpid()}.npz")
        np.savez(scratch, images=np.stack(images), captions=np.array(captions))
        os.replace(scratch, path)
    with np.load(path) as stored:
        pictures = torch.from_numpy(stored["images"]).permute(0, 3, 1, 2)
        return pictures, [str(text) for text in stored["captions"]]


def pixels(images: Tensor, device: torch.device) -> Tensor:
    """Map uint8 pictures to float32 in [-1, 1] on `device`."""
    return images.to(device, torch.float32).div(127.5).sub(1)


def rate_at(step: int, steps: int, peak: float, warmup: int = 200, cooldown: float = 0.3) -> float:
    """The learning rate: up in `warmup` steps, level, down over the last `cooldown` of `steps`.

    Level, so that a run can still be made longer: until the cool-down its steps are the same ones.
    """
    left = (steps - step) / (cooldown * steps)
    return peak * min(1.0, (step + 1) / warmup, left)


def psnr(vae: AutoencoderKL, images: Tensor, device: torch.device) -> float:
    """The reconstruction's peak signal-to-noise ratio over uint8 `images`, in dB."""
    x = pixels(images, device)
    with torch.no_grad():
        y = vae.decode(vae.encode(x).latent_dist.mode()).sample.clamp(-1, 1)
    return 10 * math.log10(4 / mse_loss(y, x).item())


def train_vae(run: Run, vae: AutoencoderKL, images: Tensor) -> None:
    """Train `vae` in place, or load it when its stage is done.

    The loss is L1 + MSE with a trace of KL, which keeps the latents centred and bounded.
    """
    path = run.out / "vae.pt"
    vae.to(run.device)
    optimizer = torch.optim.AdamW(vae.parameters(), lr=run.rate, betas=(0.9, 0.99))
    first = 0
    if path.exists():
        saved = torch.load(path, map_location=run.device, weights_only=True)
        vae.load_state_dict(saved["vae"])
        optimizer.load_state_dict(saved["optimizer"])
        first = saved["step"]
    probe, images = images[:PROBE], images[PROBE:]
    for step in range(first, run.vae_steps):
        g = torch.Generator().manual_seed(run.seed * 1_000_003 + step)
        x = pixels(images[torch.randint(len(images), (VAE_BATCH,), generator=g)], run.device)
        with torch.autocast(run.device.type, torch.bfloat16):
            latents = vae.encode(x).latent_dist
            noise = torch.randn(latents.mean.shape, generator=g).to(run.device)
            y = vae.decode(latents.mean + latents.std * noise).sample.float()
        loss = l1_loss(y, x) + mse_loss(y, x) + 1e-6 * latents.kl().mean() / 1024
        optimizer.param_groups[0]["lr"] = rate_at(
            step, run.vae_steps, run.rate, warmup=50, cooldown=1.0
        )
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimizer.step()
        if (step + 1) % 100 == 0 or step + 1 == run.vae_steps:
            say(f"vae {step + 1} loss {loss.item():.4f} psnr {psnr(vae, probe, run.device):.1f} dB")
            state = {"vae": vae.state_dict(), "optimizer": optimizer.state_dict(), "step": step + 1}
            save_atomically(state, path)
    vae.requires_grad_(False).eval()


def encoded_latents(run: Run, vae: AutoencoderKL, images: Tensor) -> Tensor:
    """Return the pictures' latents (n, 4, 16, 16), float16, scaled to unit variance.

    Sets the `vae`'s scaling factor, which the pipeline divides by before decoding.
    """
    path = run.out / "latents.pt"
    if not path.exists():
        parts = []
        with torch.no_grad():
            for i in range(0, len(images), 64):
                with torch.autocast(run.device.type, torch.bfloat16):
                    moments = vae.encode(pixels(images[i : i + 64], run.device)).latent_dist
                parts.append(moments.mode().float().cpu())
        latents = torch.cat(parts)
        scale = 1 / latents.std().item()
        save_atomically({"latents": (latents * scale).half(), "scale": scale}, path)
    saved = torch.load(path, weights_only=True)
    vae.register_to_config(scaling_factor=saved["scale"])
    stored: Tensor = saved["latents"]
    return stored


def train_decoder(run: Run, vae: AutoencoderKL, images: Tensor, latents: Tensor) -> None:
    """Train the decoder alone on the finished `latents`, in place, or load it when that is done.

    Flat ground is most of a picture and easy; here the pixels of the things and around them count
    five times, which is what makes a small star a star.
    """
    path = run.out / "decoder.pt"
    parts = torch.nn.ModuleList([vae.post_quant_conv, vae.decoder]).requires_grad_(True)
    optimizer = torch.optim.AdamW(parts.parameters(), lr=run.rate, betas=(0.9, 0.99), fused=True)
    first = 0
    if path.exists():
        saved = torch.load(path, map_location=run.device, weights_only=True)
        parts.load_state_dict(saved["parts"])
        optimizer.load_state_dict(saved["optimizer"])
        first = saved["step"]
    probe, scale = images[:PROBE], vae.config.scaling_factor
    for step in range(first, run.decoder_steps):
        g = torch.Generator().manual_seed(run.seed * 1_000_003 + step)
        pick = torch.randint(PROBE, len(images), (VAE_BATCH,), generator=g)
        x = pixels(images[pick], run.device)
        noise = 0.02 * torch.randn(x.shape[0], *latents.shape[1:], generator=g)
        z = (latents[pick].float() + noise).to(run.device) / scale
        with torch.autocast(run.device.type, torch.bfloat16):
            y = vae.decode(z).sample.float()
        thing = (x - x[..., :1, :1]).abs().amax(1, keepdim=True).gt(0.1).float()
        weight = 1 + 4 * max_pool2d(thing, 5, stride=1, padding=2)
        loss = (weight * ((y - x).abs() + (y - x).square())).mean()
        optimizer.param_groups[0]["lr"] = rate_at(
            step, run.decoder_steps, run.rate / 2, warmup=50, cooldown=1.0
        )
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parts.parameters(), 1.0)
        optimizer.step()
        if (step + 1) % 100 == 0 or step + 1 == run.decoder_steps:
            quality = psnr(vae, probe, run.device)
            say(f"decoder {step + 1} loss {loss.item():.4f} psnr {quality:.1f} dB")
            state = {"parts": parts.state_dict(), "optimizer": optimizer.state_dict()}
            save_atomically({**state, "step": step + 1}, path)
    vae.requires_grad_(False).eval()


class Denoiser(torch.nn.Module):
    """The trained part: UNet and text encoders, as StableDiffusionXLPipeline strings them."""

    def __init__(self, pipe: StableDiffusionXLPipeline) -> None:
        super().__init__()
        self.unet, self.one, self.two = pipe.unet, pipe.text_encoder, pipe.text_encoder_2
        size = float(scenes.SIZE)
        self.time_ids = torch.nn.Buffer(
            torch.tensor([size, size, 0, 0, size, size]), persistent=False
        )

    def forward(self, noisy: Tensor, t: Tensor, tokens: Tensor, keep: Tensor) -> Tensor:
        """Predict v (n, 4, 16, 16) from `noisy` latents at steps `t` (n,), `tokens` (n, 24).

        Where `keep` (n,) is 0 the caption's embeddings are zeros, as SDXL has them for no prompt.
        """
        one = self.one(tokens, output_hidden_states=True)
        two = self.two(tokens, output_hidden_states=True)
        words = torch.cat([one.hidden_states[-2], two.hidden_states[-2]], dim=-1)
        added = {
            "text_embeds": two.text_embeds * keep[:, None],
            "time_ids": self.time_ids.expand(len(tokens), -1),
        }
        v: Tensor = self.unet(noisy, t, words * keep[:, None, None], added_cond_kwargs=added).sample
        return v


def tokenized(pipe: StableDiffusionXLPipeline, captions: Sequence[str]) -> Tensor:
    """Return token ids (n, 24), exactly as the pipeline makes them."""
    ids: Tensor = pipe.tokenizer(
        list(captions), padding="max_length", max_length=TOKENS, truncation=True,
        return_tensors="pt",
    ).input_ids  # fmt: skip
    return ids


def train_unet(run: Run, pipe: StableDiffusionXLPipeline, latents: Tensor, tokens: Tensor) -> int:
    """Train UNet and text encoders in place, return the steps done; `pipe` gets averaged weights.

    Stops early, resumable, after `run.minutes`; exports what there is every `export_every` steps.
    """
    path = run.out / "unet.pt"
    model = Denoiser(pipe).to(run.device).train()
    average = copy.deepcopy(model).requires_grad_(False)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=run.rate, betas=(0.9, 0.99), weight_decay=0.01, fused=True
    )
    first = 0
    if path.exists():
        saved = torch.load(path, map_location=run.device, weights_only=True)
        model.load_state_dict(saved["model"])
        average.load_state_dict(saved["average"])
        optimizer.load_state_dict(saved["optimizer"])
        first = saved["step"]
    signal = pipe.scheduler.alphas_cumprod.to(run.device)
    started, total, done = time.monotonic(), 0.0, first
    for step in range(first, run.steps):
        optimizer.param_groups[0]["lr"] = rate_at(step, run.steps, run.rate)
        loss = denoising_loss(run, model, signal, latents, tokens, step)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        if run.ranks > 1:
            share_gradients(model.parameters(), run.ranks)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        blend(average.parameters(), model.parameters(), min(0.999, (1 + step) / (10 + step)))
        total += loss.item()
        done = step + 1
        late = time.monotonic() - started > 60 * run.minutes
        if run.rank > 0:
            continue
        if done % 100 == 0:
            pace = (done - first) / (time.monotonic() - started)
            say(f"unet {done} loss {total / 100:.4f} {pace:.2f} steps/s")
            total = 0.0
        if done % 500 == 0 or done == run.steps or late:
            state = {"model": model.state_dict(), "average": average.state_dict()}
            save_atomically({**state, "optimizer": optimizer.state_dict(), "step": done}, path)
        if late:
            break
        if done % run.export_every == 0 and done < run.steps:
            export(averaged(pipe, average), run.export, f"An intermediate, {done} steps.")
    model.load_state_dict(average.state_dict())
    return done


def denoising_loss(
    run: Run, model: Denoiser, signal: Tensor, latents: Tensor, tokens: Tensor, step: int
) -> Tensor:
    """The mean squared error of v on this process's share of the batch of `step`.

    `signal` is the schedule's alphas_cumprod (1000,).
    """
    g = torch.Generator().manual_seed(run.seed * 1_000_003 + step)
    n = run.batch
    pick = torch.randint(len(latents), (n,), generator=g)
    noise = torch.randn(n, *latents.shape[1:], generator=g)
    # Timesteps spread evenly over the batch: less noise in the gradient than independent ones.
    share = (torch.rand(1, generator=g) + torch.arange(n) / n) % 1
    keep = (torch.rand(n, generator=g) >= UNCONDITIONAL).float()
    mine = slice(run.rank, None, run.ranks)
    pick, noise, keep = pick[mine], noise[mine].to(run.device), keep[mine].to(run.device)
    x = latents[pick].to(run.device, torch.float32)
    t = (share[mine] * len(signal)).long().to(run.device)
    a, b = signal[t].sqrt()[:, None, None, None], (1 - signal[t]).sqrt()[:, None, None, None]
    v = model(a * x + b * noise, t, tokens[pick].to(run.device), keep)
    return mse_loss(v, a * noise - b * x)


def share_gradients(parameters: Iterable[Tensor], ranks: int) -> None:
    """Replace the gradients by their mean over the `ranks` processes, in place."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients]).div_(ranks)
    dist.all_reduce(flat)
    sizes = [gradient.numel() for gradient in gradients]
    parts: tuple[Tensor, ...] = flat.split(sizes)  # type: ignore[no-untyped-call]
    for gradient, part in zip(gradients, parts, strict=True):
        gradient.copy_(part.view_as(gradient))


def blend(into: Iterable[Tensor], new: Iterable[Tensor], decay: float) -> None:
    """Move the averaged weights `into` towards the `new` ones, in place."""
    with torch.no_grad():
        torch._foreach_lerp_(list(into), [p.detach() for p in new], 1 - decay)


# ---------------------------------------------------------------------------------------------
# What comes out


def averaged(pipe: StableDiffusionXLPipeline, average: Denoiser) -> StableDiffusionXLPipeline:
    """Return a pipeline of the averaged weights; `pipe` itself is left alone."""
    parts = dict(pipe.components)
    parts |= {"unet": average.unet, "text_encoder": average.one, "text_encoder_2": average.two}
    return StableDiffusionXLPipeline(**parts, add_watermarker=False)


def export(pipe: StableDiffusionXLPipeline, folder: Path, note: str) -> None:
    """Write `pipe` as a float16 folder with a README.md of `note`, replacing `folder` at once."""
    # The text encoders stay float32: transformers loads what is stored, diffusers loads float32,
    # and a pipeline of both would not run. They weigh next to nothing.
    parts = {name: copy.deepcopy(getattr(pipe, name)).cpu() for name in TRAINED}
    parts |= {name: parts[name].half() for name in ("vae", "unet")}
    scratch, old = (folder.with_name(f".{folder.name}-{kind}") for kind in ("new", "old"))
    for leftover in (scratch, old):
        shutil.rmtree(leftover, ignore_errors=True)
    whole = StableDiffusionXLPipeline(**(pipe.components | parts), add_watermarker=False)
    whole.save_pretrained(scratch)
    card = f"---\nlicense: apache-2.0\n---\n\n{note}\n"
    (scratch / "README.md").write_text(card, encoding="utf-8")
    if folder.exists():
        folder.rename(old)
    scratch.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def parameters(module: torch.nn.Module) -> int:
    """Count the parameters of `module`."""
    return sum(p.numel() for p in module.parameters())


def arguments(argv: Sequence[str] | None = None) -> Run:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m core.demo.train", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add = parser.add_argument
    add("--out", type=Path, default=Path("demo-training"), help="folder of the run's checkpoints")
    add("--export", type=Path, default=MODEL_DIR, help="folder of the finished pipeline")
    add("--device", default="auto", help="auto, cpu, cuda, ...")
    add("--seed", type=int, default=0)
    add("--scenes", type=int, default=48_000, help="captioned pictures drawn")
    add("--vae-steps", type=int, default=1_800, help=f"of {VAE_BATCH} pictures")
    add("--decoder-steps", type=int, default=1_200, help="more, of the decoder alone")
    add("--steps", type=int, default=5_000, help="of --batch pictures")
    add("--batch", type=int, default=64)
    add("--rate", type=float, default=1e-3, help="peak learning rate")
    add("--minutes", type=float, default=math.inf, help="stop the UNet's training after this long")
    add("--export-every", type=int, default=1_000, help="steps between intermediate exports")
    given: dict[str, Any] = vars(parser.parse_args(argv))
    if given["device"] == "auto":
        given["device"] = "cuda" if torch.cuda.is_available() else "cpu"
    given["device"] = torch.device(given["device"])
    run = Run(
        **given, rank=int(os.environ.get("RANK", 0)), ranks=int(os.environ.get("WORLD_SIZE", 1))
    )
    if run.ranks > 1 and run.minutes < math.inf:
        parser.error("--minutes stops one process: leave it out where several train together")
    return run


def main(argv: Sequence[str] | None = None) -> None:
    """Run every stage that is not done yet."""
    run = arguments(argv)
    run.out.mkdir(parents=True, exist_ok=True)
    if run.ranks > 1:
        dist.init_process_group("gloo")
    pipe = build_pipeline(run.seed)
    say(", ".join(f"{name} {parameters(getattr(pipe, name)):,}" for name in TRAINED))
    if not (run.export / "model_index.json").exists():
        export(pipe, run.export, "Untrained.")
    images, captions = drawn_scenes(run)
    train_vae(run, pipe.vae, images)
    latents = encoded_latents(run, pipe.vae, images)
    say(f"{len(latents)} latents, scaling factor {pipe.vae.config.scaling_factor:.4f}")
    train_decoder(run, pipe.vae, images, latents)
    done = train_unet(run, pipe, latents, tokenized(pipe, captions))
    if run.rank > 0:
        return
    export(pipe, run.export, f"{done} steps, not judged yet.")
    finished = StableDiffusionXLPipeline.from_pretrained(run.export).to(run.device)
    finished.set_progress_bar_config(disable=True)
    how = (
        f"{len(images):,} scenes; the autoencoder {run.vae_steps:,} steps of {VAE_BATCH}, "
        f"its decoder {run.decoder_steps:,} more "
        f"({psnr(pipe.vae, images[:PROBE], run.device):.1f} dB on scenes it was not trained on); "
        f"UNet and text encoders together {done:,} steps of {run.batch}, v-prediction on a "
        f"zero-terminal-SNR schedule, {UNCONDITIONAL:.0%} of captions zeroed, seed {run.seed}, "
        "averaged weights."
    )
    say(str(write_card(run.export, finished, how)))


if __name__ == "__main__":
    main()
