<?php // routes/api.php, with `apiPrefix: ''` in bootstrap/app.php
// ANCHOR: events
use App\Http\Middleware\OnlyTheGateway;
use App\Tidegate;
use Illuminate\Http\Request;
use Illuminate\Support\Facades\Route;

Route::prefix('ws')->middleware(OnlyTheGateway::class)->group(function () {
    Route::post('connect', fn (Request $request) =>
        response('', $request->query('channel') === 'general' ? 200 : 403));

    Route::post('default', function (Request $request) {
        $data = json_decode($request->getContent(), true);
        if (!is_array($data) || ($data['action'] ?? null) !== 'say') {
            return ['type' => 'error', 'text' => 'actions: say'];
        }
        $said = ['type' => 'said', 'text' => $data['text'] ?? null];
        Tidegate::push('general', $said, ['except' => $request->header('connectionId')]);
        return ['type' => 'ok'];
    });

    Route::post('disconnect', fn (Request $request) =>
        Tidegate::push('general', ['type' => 'left', 'id' => $request->header('connectionId')]));
});
// ANCHOR_END: events
