/* Turn a voxel shape on a page: outer faces of the voxels, shaded as render.py shades them, z up, the same camera at first.

   const viewer = new VoxelViewer(canvas, { color: [r, g, b], zoom: 1, twin });
                                color in [0, 1]; zoom at first, in [0.6, 4]; twin: a viewer that turns along
   viewer.show(packed, d)      d³ voxels packed as np.packbits of the C-ordered grid, Uint8Array; returns the number of faces
   viewer.paint(color), viewer.reset()                                   another colour; the first view again
   viewer.works                false where the browser has no WebGL 2: a plain message then stands in the canvas's place
   VoxelViewer.decode(base64)  → Uint8Array

   Drag, or one finger, turns; wheel (where the page can scroll: once the canvas has the focus), pinch, + and − zoom; arrow
   keys turn, 0 resets; viewer.key(event) takes keys that were pressed elsewhere. Draws only when something changed.
   A classic script without dependencies: load it by `src`, or inline it. A browser has some sixteen WebGL contexts for a
   page: use few canvases, and show shape after shape on each. */
"use strict";

class VoxelViewer {
  static ROW = 2048;  // faces in a row of the texture that holds them
  static MISSING = "This browser cannot draw 3D shapes: WebGL 2 is missing or switched off.";
  static HELP = "Voxel shape in 3D. Arrow keys turn it, plus and minus zoom, 0 resets the view.";

  constructor(canvas, { color = [0.3, 0.5, 0.78], zoom = 1, twin = null } = {}) {
    this.canvas = canvas;
    this.color = color;
    this.pointers = new Map();
    this.family = twin ? twin.family : { view: {}, zoom, members: [] };
    this.family.members.push(this);
    this.gl = canvas.getContext("webgl2", { antialias: true, alpha: true });
    this.works = Boolean(this.gl);
    if (!twin) this.reset();
    if (!this.works) return this.refuse();
    this.build();
    this.listen();
  }

  static decode(base64) {
    return Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
  }

  show(packed, d) {
    this.faces = VoxelViewer.faces(packed, d);
    this.d = d;
    if (this.works) this.upload();
    return this.faces.starts[6];
  }

  paint(color) {
    this.color = color;
    this.redraw();
  }

  /* The view of render.py: from (−0.72, −1, 0.66), so that fronts, which face −x and −y, are seen from above. */
  reset() {
    Object.assign(this.family.view, { azimuth: Math.atan2(-1, -0.72), elevation: Math.atan2(0.66, Math.hypot(0.72, 1)) });
    this.family.view.zoom = this.family.zoom;
    this.redraw();
  }

  turn(right, up, zoom = 1) {
    const view = this.family.view, steep = 1.55;
    view.azimuth += right;
    view.elevation = Math.min(steep, Math.max(-steep, view.elevation + up));
    view.zoom = Math.min(4, Math.max(0.6, view.zoom * zoom));
    this.redraw();
  }

  /* Take a key; true if it was one of ours. */
  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return false;
    const step = 0.12;
    const move = {
      ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, step], ArrowDown: [0, -step],
      "+": [0, 0, 1.12], "=": [0, 0, 1.12], "-": [0, 0, 1 / 1.12],
    }[event.key];
    if (move) this.turn(...move);
    else if (event.key === "0") this.reset();
    else return false;
    event.preventDefault();
    return true;
  }

  listen() {
    const canvas = this.canvas;
    canvas.tabIndex = 0;
    canvas.setAttribute("role", "img");
    if (!canvas.hasAttribute("aria-label")) canvas.setAttribute("aria-label", VoxelViewer.HELP);
    canvas.style.touchAction = "none";
    canvas.style.cursor = "grab";
    canvas.addEventListener("keydown", (event) => { if (this.key(event)) event.stopPropagation(); });
    canvas.addEventListener("wheel", (event) => {
      const page = document.scrollingElement;
      if (document.activeElement !== canvas && page.scrollHeight > page.clientHeight) return;
      event.preventDefault();
      this.turn(0, 0, Math.exp(-Math.sign(event.deltaY) * 0.1));
    }, { passive: false });
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      this.pointers.set(event.pointerId, event);
    });
    canvas.addEventListener("pointermove", (event) => this.drag(event));
    for (const end of ["pointerup", "pointercancel"]) {
      canvas.addEventListener(end, (event) => this.pointers.delete(event.pointerId));
    }
    canvas.addEventListener("webglcontextlost", (event) => event.preventDefault());
    canvas.addEventListener("webglcontextrestored", () => { this.build(); this.upload(); });
    new ResizeObserver(() => this.redraw()).observe(canvas);
  }

  drag(event) {
    const before = this.pointers.get(event.pointerId);
    if (!before) return;
    const others = [...this.pointers.values()].filter((pointer) => pointer.pointerId !== event.pointerId);
    if (others.length) {
      const span = (pointer) => Math.hypot(pointer.clientX - others[0].clientX, pointer.clientY - others[0].clientY) || 1;
      this.turn(0, 0, span(event) / span(before));
    } else {
      this.turn((before.clientX - event.clientX) * 0.01, (event.clientY - before.clientY) * 0.01);
    }
    this.pointers.set(event.pointerId, event);
  }

  refuse() {
    const message = document.createElement("p");
    message.className = "viewer-missing";
    message.setAttribute("role", "alert");
    message.textContent = VoxelViewer.MISSING;
    this.canvas.replaceWith(message);
  }

  /* Faces as (x, y, z, kind + 256 · shade) in 16 bits each, in order of kind: twice the axis, plus one on the upper side.
     `starts` of the result has where each kind begins, and the end. */
  static faces(packed, d) {
    const e = d + 6, strides = [e * e, e, 1];  // three empty voxels all around: the 5³ sums before a face stay inside
    const solid = new Uint8Array(e * e * e), around = [];
    for (let x = 0, bit = 0; x < d; x++) {
      for (let y = 0; y < d; y++) {
        let at = ((x + 3) * e + y + 3) * e + 3;
        for (let z = 0; z < d; z++, bit++, at++) solid[at] = (packed[bit >> 3] >> (7 - (bit & 7))) & 1;
      }
    }
    for (const stride of strides) around.push(-stride, stride);
    let closed = solid;
    for (const s of strides) {
      const sum = new Uint8Array(solid.length);
      for (let i = 2 * s; i < solid.length - 2 * s; i++) {
        sum[i] = closed[i - 2 * s] + closed[i - s] + closed[i] + closed[i + s] + closed[i + 2 * s];
      }
      closed = sum;
    }
    const shades = Array.from({ length: 126 }, (_, n) => {
      const open = Math.min(1, Math.max(0, (1 - n / 125 - 0.15) / 0.45));  // the same as in render.py
      return Math.round(255 * (0.3 + 0.7 * open)) << 8;
    });
    const counts = [0, 0, 0, 0, 0, 0];
    const each = (take) => {
      for (let x = 3; x < d + 3; x++) for (let y = 3; y < d + 3; y++) for (let z = 3; z < d + 3; z++) {
        const at = (x * e + y) * e + z;
        if (solid[at]) for (let kind = 0; kind < 6; kind++) if (!solid[at + around[kind]]) take(x - 3, y - 3, z - 3, kind, at);
      }
    };
    each((x, y, z, kind) => counts[kind]++);
    const starts = counts.reduce((sums, count) => [...sums, sums.at(-1) + count], [0]), next = starts.slice();
    const rows = Math.max(1, Math.ceil(starts[6] / VoxelViewer.ROW)), faces = new Uint16Array(4 * VoxelViewer.ROW * rows);
    each((x, y, z, kind, at) => faces.set([x, y, z, kind + shades[closed[at + around[kind]]]], 4 * next[kind]++));
    return { data: faces, rows, starts };
  }

  build() {
    const gl = this.gl, program = gl.createProgram();
    for (const [type, source] of [[gl.VERTEX_SHADER, VoxelViewer.VERTEX], [gl.FRAGMENT_SHADER, VoxelViewer.FRAGMENT]]) {
      const shader = gl.createShader(type);
      gl.shaderSource(shader, source);
      gl.compileShader(shader);
      gl.attachShader(program, shader);
    }
    gl.linkProgram(program);
    if (!gl.getProgramParameter(program, gl.LINK_STATUS) && !gl.isContextLost()) throw new Error(gl.getProgramInfoLog(program));
    gl.useProgram(program);
    this.uniforms = Object.fromEntries(["camera", "color", "light"].map((name) => [name, gl.getUniformLocation(program, name)]));
    gl.bindTexture(gl.TEXTURE_2D, gl.createTexture());  // faces are texels, six corners of two triangles each
    for (const filter of [gl.TEXTURE_MIN_FILTER, gl.TEXTURE_MAG_FILTER]) gl.texParameteri(gl.TEXTURE_2D, filter, gl.NEAREST);
    gl.enable(gl.DEPTH_TEST);
    gl.enable(gl.CULL_FACE);
  }

  upload() {
    if (!this.faces) return;
    const gl = this.gl, { data, rows } = this.faces;
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA16UI, VoxelViewer.ROW, rows, 0, gl.RGBA_INTEGER, gl.UNSIGNED_SHORT, data);
    this.redraw();
  }

  redraw() {
    for (const member of this.family.members) {
      if (!member.works || member.frame) continue;
      member.frame = requestAnimationFrame(() => { member.frame = 0; member.draw(); });
    }
  }

  draw() {
    const gl = this.gl, canvas = this.canvas, ratio = Math.min(2, window.devicePixelRatio || 1);
    const width = Math.max(1, Math.round(canvas.clientWidth * ratio)), height = Math.max(1, Math.round(canvas.clientHeight * ratio));
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    gl.viewport(0, 0, width, height);
    gl.clearColor(0, 0, 0, 0);
    gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
    if (!this.faces) return;
    gl.uniformMatrix4fv(this.uniforms.camera, false, this.camera(width / height));
    gl.uniform3fv(this.uniforms.color, this.color);
    gl.uniform1fv(this.uniforms.light, this.light());
    const { eye } = this.pose(), { starts } = this.faces;
    for (let kind = 0; kind < 6; kind++) {  // a kind whose outer sides all look away is not drawn
      const shows = kind % 2 ? eye[kind >> 1] > 1 : eye[kind >> 1] < this.d - 1;
      if (shows) gl.drawArrays(gl.TRIANGLES, 6 * starts[kind], 6 * (starts[kind + 1] - starts[kind]));
    }
  }

  /* Where the camera stands, and its axes: backwards, right, up. */
  pose() {
    const { azimuth, elevation, zoom } = this.family.view, distance = 5.3 * this.d / zoom;
    const back = [Math.cos(elevation) * Math.cos(azimuth), Math.cos(elevation) * Math.sin(azimuth), Math.sin(elevation)];
    const right = [-Math.sin(azimuth), Math.cos(azimuth), 0];
    const up = [back[1] * right[2] - back[2] * right[1], back[2] * right[0] - back[0] * right[2], back[0] * right[1] - back[1] * right[0]];
    return { distance, back, right, up, eye: back.map((part) => this.d / 2 + distance * part) };
  }

  /* World to clip, column by column: a view angle of 18° from 5.3 sides away, as in render.py; the whole grid fits. */
  camera(aspect) {
    const { distance, back, right, up } = this.pose(), d = this.d;
    const focal = Math.min(1, aspect) / Math.tan(Math.PI / 20), near = distance - 0.9 * d, far = distance + 0.9 * d;
    const move = (axis) => -(axis[0] + axis[1] + axis[2]) * d / 2;
    const deep = (far + near) / (near - far), matrix = [];
    for (let i = 0; i < 3; i++) matrix.push(right[i] * focal / aspect, up[i] * focal, back[i] * deep, -back[i]);
    const depth = move(back) - distance;
    matrix.push(move(right) * focal / aspect, move(up) * focal, depth * deep + 2 * far * near / (near - far), -depth);
    return matrix;
  }

  /* How bright each of the six kinds of faces is: the lights of render.py, which turn along with the camera. */
  light() {
    const turned = this.family.view.azimuth - Math.atan2(-1, -0.72), c = Math.cos(turned), s = Math.sin(turned);
    const bright = [0.35, 0.35, 0.35, 0.35, 0.35, 0.35];
    for (const [x, y, z, strength] of [[-0.3, -0.6, 1.6, 0.75], [0.3, -1.4, 0.4, 0.5], [-1.4, -0.2, 0.3, 0.45]]) {
      [c * x - s * y, s * x + c * y, z].forEach((part, axis) => {
        bright[2 * axis + (part > 0 ? 1 : 0)] += 0.75 * strength * Math.abs(part) / Math.hypot(x, y, z);
      });
    }
    return bright;
  }

  static VERTEX = `#version 300 es
    uniform highp usampler2D faces;
    uniform highp mat4 camera;
    uniform mediump vec3 color;
    uniform mediump float light[6];
    flat out mediump vec3 shaded;
    void main() {
      int number = gl_VertexID / 6, at = gl_VertexID % 6;
      highp uvec4 face = texelFetch(faces, ivec2(number % ${VoxelViewer.ROW}, number / ${VoxelViewer.ROW}), 0);
      int kind = int(face.w & 255u), axis = kind >> 1, side = kind & 1;
      int square = at < 3 ? at : 6 - at;  // two triangles: 0 1 2, 3 2 1
      int u = side == 1 ? square & 1 : square >> 1, v = side == 1 ? square >> 1 : square & 1;
      highp vec3 corner = vec3(face.xyz);
      corner[axis] += float(side);
      corner[(axis + 1) % 3] += float(u);
      corner[(axis + 2) % 3] += float(v);
      shaded = color * min(1.0, light[kind]) * float(face.w >> 8) / 255.0;
      gl_Position = camera * vec4(corner, 1.0);
    }`;

  static FRAGMENT = `#version 300 es
    flat in mediump vec3 shaded;
    out mediump vec4 pixel;
    void main() { pixel = vec4(shaded, 1.0); }`;
}
