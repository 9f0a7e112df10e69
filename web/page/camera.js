// This browser's camera as the source: JPEG pictures over a socket, newest first.
//
// The page lets at most two pictures be under way; while both are, the camera's next pictures are
// skipped, so a slow connection lowers the rate and not the freshness.

const QUALITY = 0.85;

/** Why the camera cannot be used here, in words for the person in front of it; '' if it can. */
export function cameraProblem() {
  if (!window.isSecureContext || !navigator.mediaDevices?.getUserMedia) {
    return 'Browsers share a camera only with https pages and with this same machine. Start the '
      + 'program with --certificate and --key, or open the page through a tunnel: '
      + `ssh -L ${location.port || 80}:127.0.0.1:${location.port || 80} ${location.hostname}, then `
      + `http://127.0.0.1:${location.port || 80}/`;
  }
  return '';
}

function said(error) {
  const known = {
    NotAllowedError: 'The browser does not allow this page to use the camera. Allow it beside the address, then try again.',
    NotFoundError: 'This browser finds no camera.',
    NotReadableError: 'The camera is in use by another program, or does not answer.',
    OverconstrainedError: 'The camera has no picture size that fits.',
  };
  return known[error.name] ?? `The camera cannot be used (${error.name}: ${error.message})`;
}

export class Camera {
  /** `onEnd(reason)` is called once, when sharing ends for whatever reason; '' = it was asked to. */
  constructor(onEnd) {
    this.onEnd = onEnd;
    this.ended = false;
    this.underWay = 0;
    this.sent = 0;
  }

  async start() {
    try {
      this.media = await navigator.mediaDevices.getUserMedia({
        audio: false,
        video: { width: { ideal: 1280 }, height: { ideal: 720 }, frameRate: { ideal: 30 } },
      });
    } catch (error) {
      this.end(said(error));
      return;
    }
    const [track] = this.media.getVideoTracks();
    track.onended = () => this.end('The camera was unplugged or taken away from this page.');
    this.video = document.createElement('video');
    this.video.muted = true;
    this.video.playsInline = true;
    this.video.srcObject = this.media;
    await this.video.play();
    const address = new URL('api/camera', location.href);
    address.protocol = location.protocol === 'https:' ? 'wss:' : 'ws:';
    this.socket = new WebSocket(address);
    this.socket.onopen = () => this.loop();
    this.socket.onmessage = () => { this.underWay = Math.max(0, this.underWay - 1); };
    this.socket.onclose = (event) => this.end(event.reason || 'The connection to the program was lost.');
  }

  loop() {
    if (this.ended) return;
    const next = () => this.loop();
    // a video that is hidden gets no frame callbacks in some browsers; the timer goes on
    if (this.video.requestVideoFrameCallback && !document.hidden) this.video.requestVideoFrameCallback(next);
    else setTimeout(next, 40);
    if (this.underWay >= 2 || this.coding || !this.video.videoWidth) return;
    this.send();
  }

  async send() {
    this.coding = true;
    try {
      const { videoWidth: width, videoHeight: height } = this.video;
      if (this.canvas?.width !== width || this.canvas?.height !== height) {
        this.canvas = new OffscreenCanvas(width, height);
        this.context = this.canvas.getContext('2d', { alpha: false });
      }
      this.context.drawImage(this.video, 0, 0, width, height);
      const jpeg = await this.canvas.convertToBlob({ type: 'image/jpeg', quality: QUALITY });
      if (this.ended || this.socket.readyState !== WebSocket.OPEN) return;
      this.underWay += 1;
      this.sent += 1;
      this.socket.send(jpeg);
    } finally {
      this.coding = false;
    }
  }

  stop() { this.end(''); }

  end(reason) {
    if (this.ended) return;
    this.ended = true;
    this.media?.getTracks().forEach((track) => track.stop());
    this.socket?.close();
    if (this.video) this.video.srcObject = null;
    this.onEnd(reason);
  }
}
