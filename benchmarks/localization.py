"""Where the evidence of a decoder lies: its map against lesion masks, beside Grad-CAM and two maps that see no network.

All maps are of the log-odds of the positive definition and scaled to a maximum of 1 on each photograph. Pointing: the
strongest place lies in a lesion or within 3 % of the side of one. Energy: the map's share in lesions over their share of
the retina, so that a uniform map scores 1. IoU: at the threshold with the best mean on these photographs, for each kind of
map, which is optimistic for all of them alike. Average precision: pixels ranked by the map; a random map scores the lesions'
area. Intervals: bootstrap of photographs, 2,000 samples.

Needs a network with an evidence map (benchmarks/decoder.py saves some) and records with lesion masks. `--split` names the
photographs to choose by ("choose": all but the test split) or those to report on ("test").

    python benchmarks/localization.py --model network.keras --records records --dataset idrid_lesions/512-plain-q95 \\
      --split choose
"""

import argparse
import json
import os
import pathlib
import sys

from machine import processor

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
SAMPLES, COVERAGE = 2000, 0.2  # as in the scorecard, a pixel of a resized mask counts from this share of lesion on


def load(flags, size):
    """(images [n, size, size, 3], {lesion: {photograph: mask}}) of the photographs with a mask."""
    import numpy as np

    from dr_tf.data.records import open_records
    from dr_tf.explain.scorecard.masks import any_lesion, read_masks
    from dr_tf.fundus.prepare import resize_square

    records = open_records(flags.records, flags.dataset)
    is_test = records.columns["split"] == "test"
    stored = read_masks(records, np.flatnonzero(is_test if flags.split == "test" else ~is_test)[: flags.most])
    images = np.stack([resize_square(records.image(row), size) for row, _ in stored])
    masks = {}
    for i, lesions in enumerate(stored.values()):
        for name, mask in {"any lesion": any_lesion(lesions), **lesions}.items():
            covered = resize_square(mask.astype(np.uint8) * 255, size) >= COVERAGE * 255
            if covered.any():
                masks.setdefault(name, {})[i] = covered
    return images, masks


def maps_of(model, images):
    """{kind of map: [maps at the size of the images, 0 to 1]}."""
    import numpy as np

    from dr_tf.explain.colour_scale import stretch_maps
    from dr_tf.explain.explainer import Explainer
    from dr_tf.explain.scorecard.baselines import BASELINES
    from dr_tf.explain.scorecard.localization import upsample
    from dr_tf.models.heads.softmax import Softmax

    kinds = {}
    for name, layer in (("evidence", "evidence"), ("Grad-CAM, stride 16", "stride_16")):
        explain = Explainer(model, Softmax(), method="grad_cam", layer=layer)
        kinds[name] = np.concatenate([stretch_maps(explain(images[i : i + 8]).maps) for i in range(0, len(images), 8)])
    kinds |= {name: baseline(images) for name, baseline in BASELINES.items()}
    return {name: [upsample(m, images.shape[1]) for m in maps] for name, maps in kinds.items()}


def scores_of(maps, masks, retinas):
    """{measure: [n]} of one kind of map for one lesion."""
    import numpy as np
    from sklearn.metrics import average_precision_score

    from dr_tf.explain.scorecard.localization import energy_pointing_game, iou_by_threshold, pointing_game

    triples = [(maps[i], mask, retinas[i]) for i, mask in masks.items()]
    iou = np.array([iou_by_threshold(*triple) for triple in triples])
    return {
        "pointing": np.array([pointing_game(*triple) for triple in triples], float),
        "energy": np.array([energy_pointing_game(*triple) for triple in triples]),
        "iou": iou[:, iou.mean(axis=0).argmax()],
        "average_precision": np.array(
            [average_precision_score(mask[retina], m[retina]) for m, mask, retina in triples]
        ),
    }


def with_interval(values):
    """[mean, low, high]."""
    import numpy as np

    draws = np.random.default_rng(0).multinomial(len(values), [1 / len(values)] * len(values), SAMPLES) / len(values)
    return [round(float(v), 3) for v in (values.mean(), *np.percentile(draws @ values, (2.5, 97.5)))]


def main() -> None:
    """Run the benchmark and print its table and JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--records", required=True)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--split", choices=("choose", "test"), required=True)
    parser.add_argument("--most", type=int, help="photographs to use at most")
    flags = parser.parse_args()
    import keras

    from dr_tf.explain.scorecard.baselines import retina_mask

    model = keras.saving.load_model(flags.model, compile=False, safe_mode=True)
    images, masks = load(flags, model.input_shape[1])
    retinas, results = [retina_mask(image) for image in images], {}
    for kind, maps in maps_of(model, images).items():
        for lesion, of_lesion in masks.items():
            scores = scores_of(maps, of_lesion, retinas)
            row = {measure: with_interval(values) for measure, values in scores.items()} | {"n": len(of_lesion)}
            results.setdefault(lesion, {})[kind] = row
            print(f"{lesion:18s} {kind:20s} {row}", flush=True)
    print(json.dumps({"machine": processor(), "dataset": flags.dataset, "split": flags.split, "scores": results}))


if __name__ == "__main__":
    main()
