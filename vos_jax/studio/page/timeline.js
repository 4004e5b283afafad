// The line of frames: where masks are, where one was painted, how far the work is.

const COLOURS = { none: '#39444f', found: '#36b870', painted: '#ffd43b', now: '#ffffff' };

export class Timeline {
  constructor(canvas, slider, output) {
    Object.assign(this, { canvas, slider, output });
    this.count = 0;
    this.masked = [];
    this.given = [];
    this.job = null;
    new ResizeObserver(() => this.draw()).observe(canvas);
  }

  update(project, job) {
    const key = JSON.stringify([project.frames, project.masked, project.given, job?.frame]);
    if (key === this.key) return;
    this.key = key;
    this.count = project.frames;
    this.masked = project.masked;
    this.given = project.given;
    this.job = job;
    this.slider.max = Math.max(0, this.count - 1);
    this.draw();
  }

  show(number) {
    this.slider.value = number;
    this.slider.setAttribute('aria-valuetext', `frame ${number} of ${this.count}`);
    this.output.value = `${number} / ${Math.max(0, this.count - 1)}`;
  }

  has(number) { return this.masked.some(([first, last]) => first <= number && number <= last); }

  draw() {
    const { canvas, count } = this, width = canvas.width = Math.round(canvas.clientWidth * devicePixelRatio);
    const height = canvas.height = Math.round(canvas.clientHeight * devicePixelRatio), context = canvas.getContext('2d');
    context.fillStyle = COLOURS.none;
    context.fillRect(0, 0, width, height);
    if (count < 1) return;
    const place = (number) => number / Math.max(1, count - 1) * width, half = Math.max(1.5, width / count / 2);
    context.fillStyle = COLOURS.found;
    for (const [first, last] of this.masked) context.fillRect(place(first) - half, 0, place(last) - place(first) + 2 * half, height);
    context.fillStyle = COLOURS.painted;
    for (const number of this.given) context.fillRect(place(number) - Math.max(half, 2), 0, Math.max(2 * half, 4), height);
    context.fillStyle = COLOURS.now;
    if (this.job?.kind === 'track' && this.job.frame !== null) context.fillRect(place(this.job.frame) - 1.5, 0, 3, height);
  }
}
