"""PyTorch's side of benchmarks/pipeline.py: DataLoaders over PNG files and over an array."""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from benchmarks import frame, torch_networks


class Files(Dataset):
    """A folder of PNG files."""

    def __init__(self, folder: Path):
        self.paths = sorted(folder.glob("*/*.png"))

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> torch.Tensor:
        with Image.open(self.paths[index]) as image:
            return torch.from_numpy(np.array(image)).permute(2, 0, 1)


class Held(Dataset):
    """An array of images in memory."""

    def __init__(self, path: Path):
        self.pixels = np.load(path)

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.from_numpy(self.pixels[index]).permute(2, 0, 1)


def endless(data: Dataset, batch: int, device: str) -> Iterator[torch.Tensor]:
    """Batches on the device in [-1, 1], epoch after epoch."""
    loader = DataLoader(
        data,
        batch,
        shuffle=True,
        num_workers=frame.threads(),
        persistent_workers=True,
        drop_last=True,
        pin_memory=device == "cuda",
    )
    while True:
        for images in loader:
            yield images.to(device, non_blocking=True).float() / 127.5 - 1


def main() -> None:
    folder, batch = Path(sys.argv[1]), int(sys.argv[2])
    device = torch_networks.device()
    loaders = {
        "PNG files": endless(Files(folder / "png"), batch, device),
        "an array": endless(Held(folder / "arrays" / "images.npy"), batch, device),
    }

    def run(kind: str, batches: int) -> tuple[float, float]:
        def some() -> None:
            for _ in range(batches):
                next(loaders[kind])
            torch_networks.wait()

        return frame.once(some)

    frame.answer(run)


if __name__ == "__main__":
    main()
