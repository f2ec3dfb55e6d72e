<?php // routes/web.php
use App\Models\Post;
use App\Tidegate;
use Illuminate\Http\Request;
use Illuminate\Support\Facades\Auth;
use Illuminate\Support\Facades\DB;
use Illuminate\Support\Facades\Route;
use Illuminate\Support\Str;

// ANCHOR: pages
Route::middleware('auth')->post('ws-token', function (Request $request) {
    $login = $request->session()->get('login') ?? (string) Str::uuid();
    $request->session()->put('login', $login); // names the login, and is not the cookie
    return Tidegate::issueToken((string) $request->user()->id, $login);
});

Route::middleware('auth')->post('logout', function (Request $request) {
    $login = $request->session()->get('login');
    Auth::logout(); // first: from here on there are no new tokens
    $request->session()->invalidate();
    if ($login) {
        Tidegate::endSession($login);
    }
    return response()->noContent();
});
// ANCHOR_END: pages

// ANCHOR: commit
Route::middleware('auth')->post('posts', fn (Request $request) => DB::transaction(function () use ($request) {
    $post = Post::create($request->validate(['text' => 'required|string']));
    DB::afterCommit(fn () => Tidegate::push('general', ['type' => 'post', 'id' => $post->id]));
    return $post;
}));
// ANCHOR_END: commit
