/* The report's shapes that turn: beside each sample its nearest training shape, both under one hand. */
"use strict";

class ShapeShow {
  static SAMPLE = [0.30, 0.50, 0.78];
  static REAL = [0.72, 0.62, 0.48];

  constructor(root) {
    const data = JSON.parse(root.querySelector("script").textContent);
    this.d = data.d;
    this.shapes = data.shapes;
    this.at = 0;
    this.label = root.querySelector("output");
    const [sample, near] = root.querySelectorAll("canvas");
    this.sample = new VoxelViewer(sample, { color: ShapeShow.SAMPLE });
    this.near = near && this.sample.works ? new VoxelViewer(near, { color: ShapeShow.REAL, twin: this.sample }) : null;
    if (!this.sample.works) {
      for (const part of [near, ...root.querySelectorAll("button")]) if (part) part.hidden = true;
      return;
    }
    for (const button of root.querySelectorAll("button")) {
      button.addEventListener("click", () => this.step(Number(button.dataset.step)));
    }
    root.addEventListener("keydown", (event) => {
      const step = { PageDown: 1, PageUp: -1, n: 1, p: -1 }[event.key];
      if (!step || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      this.step(step);
    });
    this.step(0);
  }

  step(by) {
    this.at = (this.at + by + this.shapes.length) % this.shapes.length;
    const shape = this.shapes[this.at];
    const faces = this.sample.show(VoxelViewer.decode(shape.bits), this.d);
    if (this.near) {
      this.near.canvas.style.visibility = shape.near ? "visible" : "hidden";
      if (shape.near) this.near.show(VoxelViewer.decode(shape.near), this.d);
    }
    const beside = shape.near ? `; beside it ${shape.near_name}, the training shape nearest under L1 (IoU ${shape.iou})` : "";
    this.label.textContent = `${this.at + 1} of ${this.shapes.length}: ${shape.name}${faces ? "" : ", which is empty"}${beside}`;
  }
}

for (const root of document.querySelectorAll(".show")) new ShapeShow(root);
